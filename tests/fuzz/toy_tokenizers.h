// toy_tokenizers.h: two small tokenizers for targets that need one; the caller frees them.
#pragma once

#include "text/tokenizer.h"

// All 256 bytes as symbols, a few merges, no normalizer; special <s>, <|start|> and <|end|>, and <tool>, which is not special. Valid text
// comes back from its ids unchanged.
struct oct_tokenizer *toy_byte_level_tokenizer(void);
// With scores and byte fallback.
struct oct_tokenizer *toy_sentencepiece_tokenizer(void);
