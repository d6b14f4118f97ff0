#!/usr/bin/env python3
"""Shows a streamed chat answer as it comes: curl -N .../v1/chat/completions ... | tools/show_stream.py

Reads server-sent events from standard input, prints the text, and last the speed, which needs "stream_options": {"include_usage": true}.
"""
import json
import sys
import time


def main():
    first = last = None  # when the first and the last piece of text came
    usage = None
    other = []  # lines that are no events: an error page
    for line in sys.stdin:
        if not line.startswith("data: "):
            other += [line] if line.strip() else []
            continue
        data = line.removeprefix("data: ").strip()
        if data == "[DONE]":
            break
        event = json.loads(data)
        if "error" in event:
            sys.exit(f"\nthe server says: {event['error']['message']}")
        usage = event.get("usage") or usage
        for choice in event["choices"]:
            text = choice["delta"].get("content")
            if text:
                last = time.monotonic()
                first = first or last
                print(text, end="", flush=True)
    print()
    if other or first is None:
        sys.exit("no streamed answer came: " + "".join(other).strip())
    if usage and last > first:
        count = usage["completion_tokens"]
        print(f"\n    {count} tokens, {(count - 1) / (last - first):.1f} tokens per second after the first")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
