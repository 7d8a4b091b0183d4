#!/usr/bin/env bash
# Unpack the picture packages that scenes and figures are made of, and WordNet, into a folder, without installing anything.
# usage: fetch_pictures.sh DIR    (needs apt-get and npm; run `apt-get update` once before)
set -euo pipefail
dir=${1:?usage: fetch_pictures.sh DIR}
mkdir -p "$dir"
cd "$dir"
for deb in tuxpaint-stamps-default qabcs-data scratch sweethome3d-furniture gcompris-qt-data wordnet-base; do
  [ -d "$deb" ] && continue
  apt-get download -q "$deb"
  rm -rf "$deb.part"
  mkdir "$deb.part" && dpkg -x "$deb"_*.deb "$deb.part" && mv "$deb.part" "$deb" && rm -f "$deb"_*.deb
done
for set in noto twemoji openmoji fluent-emoji-flat; do
  [ -d "emoji-$set" ] && continue
  archive=$(npm pack --silent "@iconify-json/$set")
  rm -rf "emoji-$set.part"
  mkdir "emoji-$set.part" && tar -xzf "$archive" -C "emoji-$set.part" --strip-components=1
  mv "emoji-$set.part" "emoji-$set" && rm -f "$archive"
done
