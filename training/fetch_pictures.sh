#!/usr/bin/env bash
# Unpack the picture packages that scenes and figures are made of into a folder, without installing anything.
# usage: fetch_pictures.sh DIR    (needs apt-get; run `apt-get update` once before)
set -euo pipefail
dir=${1:?usage: fetch_pictures.sh DIR}
mkdir -p "$dir"
cd "$dir"
for deb in tuxpaint-stamps-default scratch; do
  [ -d "$deb" ] && continue
  apt-get download -q "$deb"
  mkdir "$deb.part" && dpkg -x "$deb"_*.deb "$deb.part" && mv "$deb.part" "$deb" && rm -f "$deb"_*.deb
done
