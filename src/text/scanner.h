// scanner.h: the two patterns that nearly every byte-level tokenizer of the Llama family has, as hand-written scanners. They match
// what the patterns match, alternative by alternative, at several times the speed of a pattern engine.
#pragma once

#include <stddef.h>

// The end of the word that begins at text[at], at < length; valid UTF-8. Words follow each other without gaps.
//   's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
size_t oct_scan_gpt2(const char *text, size_t length, size_t at);
//   (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,max_digits}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+
size_t oct_scan_llama3(const char *text, size_t length, size_t at, int max_digits);
