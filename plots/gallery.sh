#!/bin/bash
# gallery.sh RECORD.jsonl [NAME]: pictures of the report of a record in plots/gallery/, made by a headless browser 1280 pixels wide:
# NAME-light.png (first screens), NAME-dark.png (the same, dark) and NAME-page.png (the page, at most 5200 pixels of it). PRNN_GALLERY names another folder. Needs chromium and python3-pil.
set -euo pipefail
record=${1:?usage: plots/gallery.sh RECORD.jsonl [NAME]}
here=$(cd "$(dirname "$0")" && pwd)
gallery=${PRNN_GALLERY:-$here/gallery}
python=/usr/bin/python3  # the distribution's: it has matplotlib and Pillow
name=${2:-$(basename "$record" .jsonl)}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
page=$("$python" -B "$here/report.py" "$record" --out "$work")

shoot() {  # scheme (0 dark, 1 light), height, picture
  chromium --headless --no-sandbox --disable-gpu --hide-scrollbars --blink-settings=preferredColorScheme="$1" --window-size=1280,"$2" --screenshot="$3" "file://$page" >"$work/log" 2>&1 ||
    { cat "$work/log" >&2; exit 1; }
}
shoot 1 1400 "$work/$name-light.png"
shoot 0 1400 "$work/$name-dark.png"
shoot 1 5200 "$work/$name-page.png"

mkdir -p "$gallery"
"$python" -B - "$work" "$gallery" "$name" <<'PYTHON'
import pathlib, sys
from PIL import Image, ImageChops
work, gallery, name = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), sys.argv[3]
for part in ("light", "dark", "page"):
    picture = Image.open(work / f"{name}-{part}.png").convert("RGB")
    if part == "page":  # cut the empty end off
        bottom = ImageChops.difference(picture, Image.new("RGB", picture.size, picture.getpixel((2, picture.height - 2)))).getbbox()[3]
        picture = picture.crop((0, 0, picture.width, min(picture.height, bottom + 24)))
    for colours in (256, 128, 96, 64, 48):
        small = picture.quantize(colours, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
        small.save(gallery / f"{name}-{part}.png", optimize=True)
        size = (gallery / f"{name}-{part}.png").stat().st_size
        if size < 300_000:
            break
    print(f"{gallery / f'{name}-{part}.png'} {picture.width} x {picture.height}, {size} bytes, {colours} colours")
PYTHON
