#!/bin/bash
# ready.sh PORT MODEL...: ends with 0 if every model has a version that answers.
#
# It asks for the metadata, which a loaded version gives and nothing else. The status,
# /v1/models/NAME, is answered with 200 as well when every version has failed or is
# unloaded, and gRPC's health service of tensorflow_model_server knows no models.
# The server's image has bash, but no curl.

port=$1
shift
config=$(<"${BASH_SOURCE[0]%/*}/models.config")

for model; do
  # Taken out of the configuration since this pod was started: nobody asks for it.
  [[ $config == *"name: \"$model\""* ]] || continue
  exec 3<>"/dev/tcp/127.0.0.1/$port" || exit 1
  printf 'GET /v1/models/%s/metadata HTTP/1.0\r\n\r\n' "$model" >&3
  IFS= read -r -d '' reply <&3 # all of it: who closes earlier breaks the server's pipe
  exec 3>&-
  if [[ $reply != HTTP/1.?" 200 "* ]]; then
    echo "$model: no version is available: ${reply%%$'\r'*}"
    exit 1
  fi
done
