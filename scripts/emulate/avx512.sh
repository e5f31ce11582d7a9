#!/usr/bin/env bash
# Runs tests on a processor with AVX-512 that Bochs emulates: it boots Linux there, and all that Linux runs is the tests.
# Arguments are flags of test binaries, as in -test.short. Nothing is installed; what is used can be named:
#   BOCHS   the emulator; else bochs
#   KERNEL  a Linux kernel; else the newest in /boot
#   GUI     a display that Bochs was built with; else term. Nothing is shown on it
set -euo pipefail
cd "$(dirname "$0")/../.."

packages=(./kernels/cpu ./layers ./internal/grid ./internal/linalg)
model=sapphire_rapids
share=/usr/share/bochs
boot=(/usr/lib/ISOLINUX/isolinux.bin /usr/lib/syslinux/modules/bios/ldlinux.c32)
busybox=/bin/busybox

need() { # a command or file, the Debian package that has it
	command -v "$1" >/dev/null || [ -r "$1" ] || {
		echo "emulated AVX-512 needs $1: install Debian's $2" >&2
		exit 1
	}
}
bochs=${BOCHS:-bochs}
need "$bochs" "bochs and bochs-term"
need $share/BIOS-bochs-latest bochsbios
need $share/VGABIOS-lgpl-latest bochs
need cpio cpio
need xorriso xorriso
need "${boot[0]}" isolinux
need "${boot[1]}" syslinux-common
need $busybox busybox-static
kernel=${KERNEL:-$(find /boot -name 'vmlinuz-*' 2>/dev/null | sort -V | tail -1 || true)}
need "${kernel:-a Linux kernel}" "linux-image-cloud-amd64 (6.12 works), or unpack it and set KERNEL to its vmlinuz"

if ! { "$bochs" --help cpu 2>&1 || true; } | grep -x $model >/dev/null; then
	echo "emulated AVX-512 needs Bochs 3.0: install the bochs of Debian 13, or set BOCHS to one built from its source" >&2
	exit 1
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work"/{root/{bin,tests,proc,sys,dev,tmp},disc}

flags=${*:+$(printf '%q ' "$@")}
CGO_ENABLED=0 GOOS=linux GOARCH=amd64 go test -c -ldflags '-s -w' -o "$work/root/tests/" "${packages[@]}"
cp $busybox "$work/root/bin/busybox"
cat >"$work/root/init" <<INIT
#!/bin/busybox sh
busybox mount -t proc proc /proc
busybox mount -t sysfs sysfs /sys
busybox mount -t devtmpfs dev /dev
busybox grep -m1 'model name' /proc/cpuinfo
busybox grep -m1 flags /proc/cpuinfo | busybox grep -o 'avx512[a-z0-9_]*' | busybox xargs echo
busybox grep -q avx512_vnni /proc/cpuinfo || failed="AVX-512 itself"
for test in /tests/*; do
	echo "\$test"
	\$test -test.timeout 0 $flags || failed="\$failed \$test"
done
echo "all tests ran, failed: \${failed:-none}"
busybox sleep 1 # until that is sent
busybox poweroff -f
INIT
chmod +x "$work/root/init"
(cd "$work/root" && find . | cpio -o -H newc --quiet >"$work/disc/tests")
cp "$kernel" "$work/disc/kernel"
cp "${boot[@]}" "$work/disc/"
cat >"$work/disc/isolinux.cfg" <<MENU
default tests
label tests
	kernel kernel
	initrd tests
	append console=ttyS0 loglevel=1 mitigations=off panic=-1 reboot=triple
MENU
xorriso -as mkisofs -quiet -b isolinux.bin -c boot.cat -no-emul-boot -boot-load-size 4 -boot-info-table \
	-o "$work/disc.iso" "$work/disc" 2>/dev/null

# Linux does without AVX if it finds the layout of saved registers odd, as it is with CET, Bochs gives up where Linux uses
# page tables of five levels (LA57), and delays take long with WAITPKG. Time passes by instructions (ips), not by the clock.
# A Bochs with a debugger waits for a c on its input.
cat >"$work/machine" <<MACHINE
cpu: model=$model, exclude_features="cet amx amx_int8 amx_bf16 la57 waitpkg", ips=100000000, reset_on_triple_fault=0
megs: 1024
romimage: file=$share/BIOS-bochs-latest
vgaromimage: file=$share/VGABIOS-lgpl-latest
ata0-master: type=cdrom, path=$work/disc.iso, status=inserted
boot: cdrom
com1: enabled=1, mode=file, dev=/dev/fd/3
display_library: ${GUI:-term}
log: $work/log
panic: action=fatal
MACHINE
echo "amd64, $model"
{ echo c | TERM=vt100 "$bochs" -q -f "$work/machine" 3>&1 >"$work/out" 2>&1 || true; } | sed -u 's|\r$||' | tee "$work/serial"
if ! grep -q '^all tests ran, failed: none' "$work/serial"; then
	grep -h PANIC "$work/log" "$work/out" | grep -v "soft power off" >&2 || true
	echo "emulated AVX-512: the tests did not pass" >&2
	exit 1
fi
