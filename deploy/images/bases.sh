#!/usr/bin/env bash
# Refuses bases that are named by a tag alone, which moves; for images that are pushed.
#
#   bash deploy/images/bases.sh [pinned|any]    # any: says so, and lets them pass
#
# The bases are the Dockerfile's lines `ARG ..._IMAGE=name:tag@sha256:...`; variables of
# these names come before them, as in docker-bake.hcl.
set -o errexit -o nounset -o pipefail

wanted=${1:-pinned}
[[ $wanted == pinned || $wanted == any ]] || {
  echo "bases.sh $wanted: must be pinned or any" >&2
  exit 2
}
bases=$(sed -n 's/^ARG \([A-Z]*_IMAGE\)=/\1 /p' "$(dirname "${BASH_SOURCE[0]}")/Dockerfile")
[[ -n $bases ]] || {
  echo "deploy/images/Dockerfile: has no line ARG ..._IMAGE=..." >&2
  exit 2
}
moving=0
while read -r name default; do
  base=${!name:-$default}
  [[ $base =~ @sha256:[0-9a-f]{64}$ ]] && continue
  moving=1
  echo "$name=$base: a tag moves; add the digest that \`docker buildx imagetools inspect" \
    "${base%%@*}\` prints in deploy/images/Dockerfile, as in ${base%%@*}@sha256:..." >&2
done <<<"$bases"
[[ $moving == 0 || $wanted == any ]]
