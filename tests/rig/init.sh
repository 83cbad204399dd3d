#!/usr/bin/env bash
# PID 1 of a rig host before systemd: makes what Docker gave it look like a machine of its own.

# Docker masks parts of /proc and /sys with mounts on top. The kernel lets a nested container mount its own proc and
# sysfs only where nothing hides under a mask, so each one goes (a user namespace needs /sys/firmware gone as well).
awk '$2 ~ "^/proc/" || ($2 ~ "^/sys/" && $2 !~ "^/sys/fs/cgroup") {print $2}' /proc/mounts | sort -r | while read -r mask; do
  umount "$mask"
done

# cgroup v1: each hierarchy again, writable, for systemd and the nested engine. cgroup v2: the one mount, writable.
while read -r _ dir type options _; do
  case $type in
    cgroup)
      options=$(tr ',' '\n' <<<"$options" | grep -vxE 'ro|rw|nosuid|nodev|noexec|relatime' | paste -sd,)
      umount "$dir" && mount -t cgroup -o "rw,nosuid,nodev,noexec,relatime,$options" cgroup "$dir" ;;
    cgroup2)
      [ "$dir" != /sys/fs/cgroup ] || mount -o remount,rw "$dir" ;;
  esac
done < <(awk '$2 ~ "^/sys/fs/cgroup"' /proc/mounts)

# Each host has its own identity, as a freshly installed machine has.
[ -s /etc/ssh/ssh_host_ed25519_key ] || ssh-keygen -q -t ed25519 -N '' -f /etc/ssh/ssh_host_ed25519_key

# As on any machine that systemd boots itself: what is mounted for one service (its credentials) shows in its namespace.
mount --make-rshared /

exec /sbin/init "$@"
