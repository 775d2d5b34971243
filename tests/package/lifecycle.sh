#!/bin/sh
# Runs inside of a booted Debian: installs, upgrades, removes and purges the package under systemd, and says how it went in
# /packages/outcome: "well", or the step that failed.
set -u
exec >/packages/lifecycle.log 2>&1
set -x
export DEBIAN_FRONTEND=noninteractive

fail() {
    echo "$*" >/packages/outcome
    systemctl status ws2api
    systemctl poweroff
    exit 1
}
is() { [ "$(systemctl "$1" ws2api)" = "$2" ] || fail "$3: $1 is not $2"; }
serves() { python3 /packages/push.py || fail "$1: no push"; }

dpkg --install /packages/old.deb || fail installed
is is-enabled enabled installed
is is-active active installed
serves installed
before=$(systemctl show --property MainPID --value ws2api)

python3 /packages/push.py over dpkg --install /packages/new.deb || fail "upgraded: its client noticed"
is is-active active upgraded
serves upgraded
[ "$(systemctl show --property MainPID --value ws2api)" != "$before" ] || fail "upgraded: the old program still runs"
[ "$(systemctl show --property NRestarts --value ws2api)" = 0 ] || fail "upgraded: restarted"
systemctl reload ws2api || fail reloaded
is is-active active reloaded

systemctl disable --now ws2api
dpkg --install /packages/new.deb || fail "installed again"
is is-enabled disabled "disabled and installed again"
is is-active inactive "disabled and installed again"
systemctl enable --now ws2api || fail "enabled again"
serves "enabled again"

dpkg --remove ws2api || fail removed
is is-active inactive removed
[ -e /etc/ws2api/ws2api.toml ] || fail "removed: the configuration is gone"
dpkg --install /packages/new.deb || fail "installed after a removal"
is is-enabled enabled "installed after a removal"
is is-active active "installed after a removal"

dpkg --purge ws2api || fail purged
is is-active inactive purged
for left in /etc/ws2api /var/lib/ws2api /etc/systemd/system/ws2api.service /etc/systemd/system/multi-user.target.wants/ws2api.service; do
    { [ -e "$left" ] || [ -L "$left" ]; } && fail "purged: $left is left"
done
[ -z "$(systemctl --failed --no-legend)" ] || fail "units have failed: $(systemctl --failed --no-legend)"
echo well >/packages/outcome
systemctl poweroff
