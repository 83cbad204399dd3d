#!/usr/bin/env bash
# edge.sh PORT: succeeds when the proxy of this host says that a replica is ready, or asks for a login. keepalived asks every two seconds, so
# bash does all of it: no other program is started.
exec 2>/dev/null 3<>"/dev/tcp/127.0.0.1/$1" || exit 1
printf 'GET /server_info HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n' >&3
read -r -t 3 _ status _ <&3
# A login in front of it answers for itself. Then nothing more can be asked than that nginx is there.
[[ "$status" = 200 || "$status" = 30[12378] || "$status" = 40[13] ]]
