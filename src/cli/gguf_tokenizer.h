// gguf_tokenizer.h: a GGUF file's tokenizer as the files that Hugging Face's libraries, and so vLLM, read.
#pragma once

#include "base/error.h"
#include "model/gguf.h"

// Writes tokenizer.json and tokenizer_config.json (with the chat template) into the folder. Byte-level vocabularies whose pre-tokenizer is
// "smollm", "gpt-2" or "llama-bpe"; others are an error that says what to do.
oct_status oct_gguf_tokenizer_write(const struct oct_gguf *gguf, const char *folder, oct_error *err);
