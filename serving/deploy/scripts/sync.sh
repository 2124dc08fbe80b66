#!/bin/sh
# sync.sh FOLDER TARGET MODEL...: keeps TARGET as the bucket has it, by rclone.
#
# FOLDER is BUCKET or BUCKET/PATH. FOLDER/MODEL/models.config names the versions that are
# served; who publishes writes it when they are complete, so nothing else is taken. A
# version is copied under a name that is no number, which the server passes over, and then
# renamed. What is named no more is removed once all that is named is there.

folder=$1
target=$2
shift 2

sync_model() (
  model=$1
  config=$(rclone cat "bucket:$folder/$model/models.config") || exit 1
  wanted=$(printf '%s\n' "$config" | sed 's/#.*//' | tr '\n' ' ' |
    grep -o '[^_a-z]versions *: *[0-9][0-9]*' | grep -o '[0-9]*$')
  if [ -z "$wanted" ]; then
    echo "$folder/$model/models.config names no version" >&2
    exit 1
  fi
  mkdir -p "$target/$model" && cd "$target/$model" || exit 1
  for version in $wanted; do
    [ -d "$version" ] && continue
    rm -rf ".copying-$version"
    rclone copy "bucket:$folder/$model/$version" ".copying-$version" || exit 1
    if [ ! -f ".copying-$version/saved_model.pb" ]; then
      echo "$folder/$model/$version has no saved_model.pb" >&2
      exit 1
    fi
    mv ".copying-$version" "$version" || exit 1
    echo "$folder/$model/$version is here"
  done
  for found in * .copying-*; do
    [ -d "$found" ] || continue
    case " $(echo $wanted) " in
      *" $found "*) ;;
      *) rm -rf .removing && mv "$found" .removing && rm -rf .removing ;;
    esac
  done
)

while :; do
  complete=yes
  for model; do
    sync_model "$model" || complete=
  done
  [ -n "$complete" ] && : >"$target/.complete" # the startup probe waits for it
  sleep "${PERIOD:-30}"
done
