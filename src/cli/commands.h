// commands.h: the subcommands. Each is a constant table in the file of its name.
#pragma once

#include "cli/flags.h"

extern const struct oct_command oct_command_generate;
extern const struct oct_command oct_command_chat;
extern const struct oct_command oct_command_serve;
extern const struct oct_command oct_command_calibrate;
extern const struct oct_command oct_command_quantize;
extern const struct oct_command oct_command_eval;
extern const struct oct_command oct_command_inspect;
extern const struct oct_command oct_command_tokenize;
extern const struct oct_command oct_command_render;
extern const struct oct_command oct_command_bench;
extern const struct oct_command oct_command_unify;
extern const struct oct_command oct_command_expand;
extern const struct oct_command oct_command_diff;
extern const struct oct_command oct_command_scales;
extern const struct oct_command oct_command_tune;
extern const struct oct_command oct_command_report;
