# What the scripts of this folder share. A script sources it first; it gives
# $lazyfs, the program, and $work, a new folder that is removed at every end of
# the script with all that is mounted below it.
set -euo pipefail
shopt -s inherit_errexit

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
lazyfs=${LAZYFS:-$top/bin/lazyfs}
suite=$(basename "$0")

# stop tells why the script can't go on.
stop() {
	printf '%s: %s\n' "$suite" "$*" >&2
	exit 2
}

# usage is for command lines that do not fit.
usage() {
	printf 'usage: test/suites/%s %s\n' "$suite" "$*" >&2
	exit 2
}

# needs FILE... stops unless a suite's programs are there.
needs() {
	for file; do
		[ -x "$file" ] || stop "$file is missing: build the suite as its own documents say"
	done
}

[ "$(id -u)" = 0 ] || stop "has to run as root"
[ -x "$lazyfs" ] || stop "$lazyfs is missing: run make first"
work=$(mktemp -d "${TMPDIR:-/tmp}/lazyfs-$suite-XXXXXX")
chmod 755 "$work"

clean_up() {
	code=$?
	trap '' HUP INT TERM
	cd /
	# The mount made last comes last in the list.
	awk -v under="$work/" 'index($5, under) == 1 {print $5}' /proc/self/mountinfo | tac | while read -r dir; do
		umount "$dir" || umount -l "$dir" || :
	done
	rm -rf --one-file-system "$work"
	exit "$code"
}
trap clean_up EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

# say prints a line of the result.
say() { printf '%s: %s\n' "$suite" "$*"; }

# mount_new NAME [FLAG...] mounts a new, empty folder $work/NAME.stores on
# $work/NAME for every user, read-write.
mount_new() {
	local name=$1
	shift
	mkdir "$work/$name.stores" "$work/$name"
	mount_again "$name" "$@"
}

# mount_again NAME [FLAG...] mounts it once more.
mount_again() {
	local name=$1
	shift
	"$lazyfs" mount --quiet --rw --allow-other --log "$work/$name.log" "$@" "$work/$name.stores" "$work/$name"
}

# daemon_of NAME prints the process that serves the mount of mount_new NAME.
daemon_of() {
	sed 's/.*"pid":\([0-9]*\).*/\1/' "/run/lazyfs/$(mountpoint -d "$work/$1")"
}

# call_type NAME makes df call the type of lazyfs mounts NAME: suites know types of
# file systems by their names, and leave out tests where they know none.
call_type() {
	program df <<-END
		$(type -P df) "\$@" | sed "s/fuse\.lazyfs/$1/"
	END
}

# program NAME puts a shell script, which it reads, before all other programs NAME.
program() {
	mkdir -p "$work/bin"
	(echo '#!/bin/sh' && cat) >"$work/bin/$1"
	chmod +x "$work/bin/$1"
	PATH=$work/bin:${PATH#"$work/bin:"}
}

# check_stores NAME checks every store below the folder of mount_new NAME, which is
# not mounted any more, and fails if the daemon had anything to complain about.
check_stores() {
	local n
	n=$(find "$work/$1.stores" -type f -name '*.lazy' | wc -l)
	find "$work/$1.stores" -type f -name '*.lazy' -print0 | xargs -0 -r "$lazyfs" check --quiet >"$work/$1.checked" || {
		tail -n 20 "$work/$1.checked"
		stop "a store is damaged"
	}
	say "$n stores checked, all sound"
	if [ -s "$work/$1.log" ]; then
		say "the daemon says:"
		head -n 20 "$work/$1.log"
	fi
}
