set -e
D=/tmp/h2/sites/.tmp/pg; rm -rf $D; B=$(ls -d /usr/lib/postgresql/15/bin 2>/dev/null || dirname $(readlink -f /usr/local/bin/postgres))
echo bin $B; ls $B | head -30; file /usr/local/bin/postgres | cut -c1-150
