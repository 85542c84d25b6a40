#!/bin/sh
# Installs nsfwscan for the user who runs it, below ~/.local, from the folder this script lies in.
#   sh install.sh               install, or replace an earlier version; models and cache stay
#   sh install.sh --uninstall   remove exactly what was installed
# Nothing needs root and nothing is downloaded.
set -eu

say() { printf '%s\n' "$*"; }
fail() { printf 'install.sh: %s\n' "$*" >&2; exit 2; }

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd -P)
[ -n "${HOME:-}" ] || fail 'HOME is not set, so there is no place to install to.'
local=$HOME/.local
target=$local/lib/nsfwscan
data=${XDG_DATA_HOME:-$local/share}
list=$target/installed-files.txt

refresh() {
  # Menus notice by themselves at the next login; these make it now, where they exist.
  if command -v update-desktop-database >/dev/null; then
    update-desktop-database -q "$data/applications" 2>/dev/null || :
  fi
}

uninstall() {
  [ -f "$list" ] || fail "$target was not installed by this script."
  while IFS= read -r path; do
    rm -f -- "$path"
  done <"$list"
  rm -rf -- "$target"
  refresh
}

case ${1:-} in
  '') ;;
  --uninstall)
    cd /
    uninstall
    say "nsfwscan is removed. What it wrote itself (models, cache, configuration) is still there;"
    say "\`nsfwscan self-uninstall --purge\` removes that, and has to be run before."
    exit 0
    ;;
  *) fail "there is no option $1; see the first lines of this file." ;;
esac

[ -x "$here/nsfwscan" ] || fail "$here is not the folder of a bundle: there is no program in it."
[ "$here" != "$target" ] || fail 'this is the installed copy; run the one you downloaded.'
if [ -e "$target" ] && [ ! -f "$list" ]; then
  fail "$target exists and was not installed by this script; move it out of the way first."
fi
link=$local/bin/nsfwscan
if { [ -e "$link" ] || [ -L "$link" ]; } && ! grep -qsxF -- "$link" "$list"; then
  fail "$link exists and was not installed by this script; move it out of the way first."
fi

mkdir -p "$local/lib" "$local/bin"
fresh=$local/lib/.nsfwscan-new-$$
undo() {
  # Only what was not there before: an earlier version goes on working.
  if [ -f "$fresh/installed-files.txt" ]; then
    while IFS= read -r path; do
      grep -qsxF -- "$path" "$list" || rm -f -- "$path"
    done <"$fresh/installed-files.txt"
  fi
  rm -rf -- "$fresh"
}
trap undo EXIT
trap 'exit 130' INT TERM HUP
cp -R -- "$here" "$fresh" || fail "the program cannot be copied to $local/lib; is the disk full?"
"$fresh/nsfwscan" --version >/dev/null || fail 'the copied program does not run; is the disk full?'

# Paths in menus are absolute. | cannot be part of a replacement below unless it is escaped.
escaped=$(printf '%s' "$target" | sed 's/[\\&|]/\\&/g')
: >"$fresh/installed-files.txt"
place() { # place SOURCE TARGET MODE: install a file, with paths changed to where the program is
  mkdir -p -- "$(dirname -- "$2")"
  printf '%s\n' "$2" >>"$fresh/installed-files.txt"
  sed "s|/usr/lib/nsfwscan|$escaped|g" "$fresh/$1" >"$2.nsfwscan-new" ||
    { rm -f -- "$2.nsfwscan-new"; fail "$2 cannot be written; is the disk full?"; }
  chmod "$3" "$2.nsfwscan-new"
  mv -f -- "$2.nsfwscan-new" "$2"
}

place share/applications/nsfwscan.desktop "$data/applications/nsfwscan.desktop" 644
place share/icons/hicolor/scalable/apps/nsfwscan.svg \
  "$data/icons/hicolor/scalable/apps/nsfwscan.svg" 644
place share/metainfo/io.github.nsfwscan.nsfwscan.metainfo.xml \
  "$data/metainfo/io.github.nsfwscan.nsfwscan.metainfo.xml" 644
place share/kio/servicemenus/nsfwscan.desktop "$data/kio/servicemenus/nsfwscan.desktop" 755
place share/nemo/actions/nsfwscan.nemo_action "$data/nemo/actions/nsfwscan.nemo_action" 644
place share/nsfwscan/nautilus-script "$data/nautilus/scripts/Scan with nsfwscan" 755
place share/man/man1/nsfwscan.1 "$data/man/man1/nsfwscan.1" 644
place share/bash-completion/completions/nsfwscan "$data/bash-completion/completions/nsfwscan" 644
place share/fish/vendor_completions.d/nsfwscan.fish \
  "$data/fish/vendor_completions.d/nsfwscan.fish" 644
place share/zsh/site-functions/_nsfwscan "$data/zsh/site-functions/_nsfwscan" 644
printf '%s\n' "$link" >>"$fresh/installed-files.txt"
printf 'sh "%s/install.sh" --uninstall\n' "$target" >"$fresh/REMOVE.txt"

# The earlier version goes last, so that at every moment there is a whole one.
old=$local/lib/.nsfwscan-old-$$
if [ -f "$list" ]; then
  while IFS= read -r path; do
    grep -qxF -- "$path" "$fresh/installed-files.txt" || rm -f -- "$path"
  done <"$list"
  mv -- "$target" "$old"
fi
mv -- "$fresh" "$target"
trap - EXIT
ln -sf -- "$target/nsfwscan" "$link"
rm -rf -- "$old"
refresh

say "nsfwscan is installed: $link"
case :$PATH: in
  *:"$local/bin":*) ;;
  *) say "$local/bin is not in your PATH yet; on most systems it is after the next login." ;;
esac
say "To remove it: sh '$target/install.sh' --uninstall"
