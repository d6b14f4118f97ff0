// log.h: one line a message, to standard error (never to standard output, which belongs to the program's answers).
#pragma once

enum oct_log_level { OCT_LOG_DEBUG, OCT_LOG_INFO, OCT_LOG_WARNING, OCT_LOG_ERROR };

// Lines below this level are dropped. Default OCT_LOG_WARNING, so that a program that embeds the library hears only problems.
void oct_log_set_level(enum oct_log_level level);
void oct_log(enum oct_log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));
