#!/bin/sh
# Whole golden files under a Python for 64-bit ARM, emulated: sh tests/foreign/whole.sh FOLDER [NAME...]
#
# On Debian 12 with qemu-user-static, gcc-aarch64-linux-gnu and unzip. Packages for ARM are unpacked in
# FOLDER and not installed; where apt does not know arm64 yet: dpkg --add-architecture arm64; apt update.
set -eu
folder=$1; shift
here=$(cd "$(dirname "$0")/../.." && pwd)
mkdir -p "$folder/debs" "$folder/wheels" "$folder/root" "$folder/site" "$folder/code/pixelzip"
folder=$(cd "$folder" && pwd)

if [ ! -e "$folder/root/usr/bin/python3.11" ]; then
    (cd "$folder/debs" && apt-get download -qq \
        $(for p in libc6 python3.11 python3.11-minimal libpython3.11-minimal libpython3.11-stdlib \
            libexpat1 zlib1g libssl3 libffi8 libbz2-1.0 liblzma5 libgcc-s1 libstdc++6; do echo $p:arm64; done))
    for deb in "$folder"/debs/*.deb; do dpkg -x "$deb" "$folder/root"; done
    for abi in cp311 abi3; do
        python3 -m pip download -q --no-deps --only-binary=:all: --python-version 3.11 \
            --implementation cp --abi $abi --platform manylinux_2_28_aarch64 \
            --platform manylinux_2_27_aarch64 --platform manylinux2014_aarch64 -d "$folder/wheels" \
            $([ $abi = abi3 ] && echo safetensors || echo numpy pillow)
    done
    for wheel in "$folder"/wheels/*.whl; do unzip -qo "$wheel" -d "$folder/site"; done
fi

package=$folder/code/pixelzip
cp -r "$here"/pixelzip/* "$here/codec" "$here/models" "$package"
find "$package" -name '*.so' -delete
build() { aarch64-linux-gnu-gcc -shared -fPIC -O2 -ffp-contract=off -fvisibility=hidden "$@"; }
build "$here"/codec/csrc/*.c -o "$package/codec/_coding.abi3.so"
build -fno-math-errno -fno-trapping-math -I"$here/codec/csrc" "$here"/models/frozen/csrc/*.c \
    -o "$package/models/frozen/_engine.abi3.so"

exec env -i HOME="$folder" PYTHONHOME="$folder/root/usr" PYTHONPATH="$folder/code:$folder/site" \
    PYTHONDONTWRITEBYTECODE=1 qemu-aarch64-static -L "$folder/root" \
    "$folder/root/usr/bin/python3.11" "$here/tests/foreign/files.py" "$@"
