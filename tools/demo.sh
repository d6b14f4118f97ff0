#!/bin/sh
# What Octavo is for, from end to end, with the default model: calibrate it, compare FP8 with bf16, serve it, chat with it.
set -eu
cd "$(dirname "$0")/.."

octavo=build/octavo
model=smollm2
python=.deps/venv/bin/python3
calibration=${XDG_CACHE_HOME:-$HOME/.cache}/octavo/calibration
config=$calibration/$model/maxabs_quant_g3.json
fp8="--quantization inc --kv-cache-dtype fp8_inc"
server=
server_log=build/logs/demo-server.log

stop_server() {
    [ -n "$server" ] || return 0
    kill -TERM "$server" 2>/dev/null || true
    wait "$server" 2>/dev/null || true
    server=
}
trap stop_server EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

say() { printf '\n==> %s\n' "$*"; }
# Shows a command as one could type it, then runs it.
run() {
    printf '    $ %s\n\n' "$*"
    "$@"
}

if [ "$config" -nt "$octavo" ]; then
    say "calibrating: done already, and with this build: $config"
else
    say "calibrating: the largest value at each module's input, over 128 prompts ..."
    run $octavo calibrate $model --output "$calibration"
fi

say "comparing FP8 with bf16 on text that calibration has not seen ..."
export QUANT_CONFIG="$config"
printf '    $ export QUANT_CONFIG=%s\n' "$config"
run $octavo eval $model $fp8 --text share/octavo/evaluation_text.txt --against bf16

port=$($python -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
say "starting the server ..."
printf '    $ %s serve %s %s --port %s &\n' "$octavo" "$model" "$fp8" "$port"
mkdir -p build/logs
$octavo serve $model $fp8 --port "$port" >"$server_log" 2>&1 &
server=$!
waited=0 # tenths of a second
until curl --silent --fail --output /dev/null "http://127.0.0.1:$port/health"; do
    if ! kill -0 "$server" 2>/dev/null || [ "$waited" -ge 1200 ]; then
        tail -n 30 "$server_log" >&2
        echo "the server did not start; its output is in $server_log" >&2
        exit 1
    fi
    sleep 0.1
    waited=$((waited + 1))
done

say "asking it something ..."
request='{"model": "'$model'", "stream": true, "stream_options": {"include_usage": true}, "temperature": 0, "max_tokens": 160,
  "messages": [{"role": "user", "content": "Why is the sky blue? Explain it to a child in a few sentences."}]}'
printf '    $ curl -N http://127.0.0.1:%s/v1/chat/completions -H "Content-Type: application/json" -d '\''%s'\''\n\n' "$port" "$request"
curl --no-buffer --silent --show-error --fail-with-body "http://127.0.0.1:$port/v1/chat/completions" \
    --header "Content-Type: application/json" --data "$request" | $python tools/show_stream.py

say "stopping the server ..."
stop_server

say "What next? A conversation in this terminal, and an OpenAI-compatible server on port 8000:"
cat <<END
    export QUANT_CONFIG=$config
    $octavo chat $model $fp8
    $octavo serve $model $fp8

==> And with a model of your own, a Hugging Face folder or a GGUF file:
    $octavo calibrate MODEL --output DIR
    $octavo --help
END
