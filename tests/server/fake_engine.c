// fake_engine.c: octavo.h without a model, so that the server can be tested alone and fast. A token is one byte (id = byte + 3); the
// answer repeats the prompt's text over and over. Words in the prompt steer it:
//   !delay=20     milliseconds between tokens        !eos=5      ends by itself after 5 tokens
//   !fail=3       fails in place of token 3          !refuse     submitting fails; !busy: for now
//   !seeded      says the letter that the seed numbers
//   !slowtext=50  tokenizing takes 50 ms             !say=TEXT;  the answer repeats TEXT instead

#include "base/buffer.h"
#include "octavo.h"

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { EOS = 2, FIRST_BYTE = 3, VOCABULARY = 259, MAX_MODEL_LEN = 2048 };

struct oct_request {
    oct_request *next;
    oct_engine *engine;
    char *script; // (script_length) what it says, over and over
    size_t script_length;
    oct_sampling_params params;
    char **stops;
    int prompt_tokens, made, taken; // tokens
    int delay_ms, eos_after, fail_at;
    struct timespec due;
    oct_notify notify;
    void *context;
    bool cancelled, finished, delivered;
    oct_finish finish;
    const char *stop_string;
    int32_t stop_token;
    oct_error error;
    // Made and not yet taken, then what the last delta points to.
    char *text, *out_text;
    size_t text_length, shown; // text made; how much of it has been handed out
    int32_t *ids, *out_ids;
    oct_token_logprob *out_logprobs, *prompt_logprobs; // the latter NULL unless asked for, and once delivered
    bool prompt_shown;
};

struct oct_engine {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    pthread_t thread;
    bool closing;
    oct_request *requests;
    uint64_t prompt_tokens, generation_tokens, steps, cancelled;
};

static oct_status fail(oct_error *err, oct_status code, const char *text) {
    if (err) {
        err->code = code;
        snprintf(err->message, sizeof err->message, "%s", text);
    }
    return code;
}

static int word(const char *text, const char *name, int otherwise) {
    const char *at = strstr(text, name);
    return at ? atoi(at + strlen(name)) : otherwise;
}

static void sleep_ms(int ms) {
    struct timespec time = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000L};
    nanosleep(&time, NULL);
}

static bool is_due(const struct timespec *due, const struct timespec *now) {
    return due->tv_sec < now->tv_sec || (due->tv_sec == now->tv_sec && due->tv_nsec <= now->tv_nsec);
}

static void finish(oct_request *r, oct_finish how) {
    r->finished = true;
    r->finish = how;
}

static void make_token(oct_request *r) {
    if (r->fail_at >= 0 && r->made == r->fail_at) {
        fail(&r->error, OCT_INTERNAL, "logits are not finite");
        return finish(r, OCT_FINISH_ERROR);
    }
    bool eos = r->eos_after >= 0 && r->made >= r->eos_after && !r->params.ignore_eos;
    int32_t id = eos ? EOS : FIRST_BYTE + (unsigned char)r->script[(size_t)r->made % r->script_length];
    r->ids[r->made++] = id;
    r->engine->generation_tokens++;
    for (size_t i = 0; i < r->params.num_stop_token_ids; i++)
        if (r->params.stop_token_ids[i] == id) {
            r->stop_token = id;
            return finish(r, OCT_FINISH_STOP);
        }
    if (eos) {
        r->stop_token = EOS;
        return finish(r, OCT_FINISH_STOP);
    }
    r->text[r->text_length++] = (char)(id - FIRST_BYTE);
    r->text[r->text_length] = '\0';
    for (size_t i = 0; i < r->params.num_stop; i++) {
        char *at = r->made >= r->params.min_tokens ? strstr(r->text, r->stops[i]) : NULL;
        if (!at) continue;
        r->text_length = (size_t)(at - r->text);
        r->stop_string = r->stops[i];
        return finish(r, OCT_FINISH_STOP);
    }
    int most = r->params.max_tokens > 0 ? r->params.max_tokens : MAX_MODEL_LEN - r->prompt_tokens;
    if (r->made >= most) finish(r, OCT_FINISH_LENGTH);
}

static void *run(void *context) {
    oct_engine *engine = context;
    pthread_mutex_lock(&engine->lock);
    while (!engine->closing) {
        struct timespec now, next;
        clock_gettime(CLOCK_REALTIME, &now);
        next = now;
        next.tv_sec += 1;
        bool ready = false;
        for (oct_request *r = engine->requests; r; r = r->next) {
            if (r->finished) continue;
            if (r->cancelled) {
                finish(r, OCT_FINISH_ABORT);
                engine->cancelled++;
            } else if (is_due(&r->due, &now)) {
                make_token(r);
                r->due = now;
                r->due.tv_nsec += (long)r->delay_ms * 1000000L;
                r->due.tv_sec += r->due.tv_nsec / 1000000000L;
                r->due.tv_nsec %= 1000000000L;
                ready |= r->delay_ms == 0;
            } else {
                if (is_due(&r->due, &next)) next = r->due;
                continue;
            }
            if (!r->finished && is_due(&r->due, &next)) next = r->due;
            if (r->notify) r->notify(r->context);
        }
        engine->steps++;
        if (ready) {
            pthread_mutex_unlock(&engine->lock);
            sleep_ms(0);
            pthread_mutex_lock(&engine->lock);
        } else {
            pthread_cond_timedwait(&engine->changed, &engine->lock, &next);
        }
    }
    pthread_mutex_unlock(&engine->lock);
    return NULL;
}

oct_status oct_engine_open(const oct_engine_options *options, oct_engine **out, oct_error *err) {
    (void)options, (void)err;
    oct_engine *engine = calloc(1, sizeof *engine);
    pthread_mutex_init(&engine->lock, NULL);
    pthread_cond_init(&engine->changed, NULL);
    pthread_create(&engine->thread, NULL, run, engine);
    *out = engine;
    return OCT_OK;
}

oct_status oct_engine_close(oct_engine *engine, oct_error *err) {
    pthread_mutex_lock(&engine->lock);
    engine->closing = true;
    pthread_cond_broadcast(&engine->changed);
    bool leaked = engine->requests != NULL;
    pthread_mutex_unlock(&engine->lock);
    pthread_join(engine->thread, NULL);
    fprintf(stderr, "fake engine: %llu cancelled, %llu generated\n", (unsigned long long)engine->cancelled,
            (unsigned long long)engine->generation_tokens);
    free(engine);
    return leaked ? fail(err, OCT_INTERNAL, "requests are left") : OCT_OK;
}

void oct_engine_get_info(const oct_engine *engine, oct_engine_info *info) {
    (void)engine;
    *info = (oct_engine_info){.model = "/models/fake", .description = "fake", .max_model_len = MAX_MODEL_LEN, .vocab_size = VOCABULARY};
}

oct_status oct_tokenize(oct_engine *engine, const char *text, size_t length, bool add_special_tokens, int32_t **ids, size_t *count,
                        oct_error *err) {
    (void)engine, (void)add_special_tokens, (void)err;
    char *copy = strndup(text, length);
    sleep_ms(word(copy, "!slowtext=", 0));
    free(copy);
    *ids = length ? malloc(length * sizeof **ids) : NULL; // as the engine does
    for (size_t i = 0; i < length; i++) (*ids)[i] = FIRST_BYTE + (unsigned char)text[i];
    *count = length;
    return OCT_OK;
}

oct_status oct_detokenize(oct_engine *engine, const int32_t *ids, size_t count, bool skip_special_tokens, char **text, size_t *length,
                          oct_error *err) {
    (void)engine;
    char *out = malloc(count * 8 + 1);
    size_t n = 0;
    for (size_t i = 0; i < count; i++) {
        if (ids[i] < 0 || ids[i] >= VOCABULARY) {
            free(out);
            return fail(err, OCT_INVALID_ARGUMENT, "unknown token id");
        }
        if (ids[i] >= FIRST_BYTE)
            out[n++] = (char)(ids[i] - FIRST_BYTE);
        else if (!skip_special_tokens)
            n += (size_t)sprintf(out + n, "<s%d>", ids[i]);
    }
    out[n] = '\0';
    *text = out;
    *length = n;
    return OCT_OK;
}

// The "template": what the JSON says, word for word, and each option that is not as requests have it by default.
oct_status oct_chat_prompt(oct_engine *engine, const char *messages_json, const oct_chat_options *options, char **text, size_t *length,
                           oct_error *err) {
    const struct {
        const char *name, *value;
    } shown[] = {
        {"tools", options->tools_json},
        {"documents", options->documents_json},
        {"kwargs", options->template_kwargs_json},
        {"template", options->chat_template},
        {"format", options->content_format},
        {"continue", options->continue_final_message ? "yes" : NULL},
        {"special", options->add_special_tokens ? "yes" : NULL},
        {"trusted", options->allow_special_tokens_in_messages ? "yes" : NULL},
    };
    (void)engine;
    if (strstr(messages_json, "!badtemplate")) return fail(err, OCT_INVALID_ARGUMENT, "chat template: roles must alternate");
    struct oct_buffer out = {0};
    oct_buffer_puts(&out, messages_json);
    for (size_t i = 0; i < sizeof shown / sizeof *shown; i++)
        if (shown[i].value) oct_buffer_printf(&out, " %s=%s", shown[i].name, shown[i].value);
    if (options->add_generation_prompt) oct_buffer_puts(&out, ">>");
    *length = out.length;
    *text = oct_buffer_take(&out);
    return OCT_OK;
}

oct_status oct_chat_tokens(oct_engine *engine, const char *messages_json, const oct_chat_options *options, int32_t **ids, size_t *count,
                           oct_error *err) {
    char *text;
    size_t length;
    oct_status status = oct_chat_prompt(engine, messages_json, options, &text, &length, err);
    if (status != OCT_OK) return status;
    status = oct_tokenize(engine, text, length, false, ids, count, err);
    free(text);
    return status;
}

oct_status oct_request_submit(oct_engine *engine, const int32_t *prompt, size_t prompt_length, const oct_sampling_params *params,
                              oct_notify notify, void *context, oct_request **out, oct_error *err) {
    if (prompt_length + 1 > MAX_MODEL_LEN) return fail(err, OCT_INVALID_ARGUMENT, "prompt too long");
    char *text;
    size_t length;
    if (oct_detokenize(engine, prompt, prompt_length, true, &text, &length, err) != OCT_OK) return err->code;
    if (strstr(text, "!refuse")) {
        free(text);
        return fail(err, OCT_INVALID_ARGUMENT, "refused");
    }
    if (strstr(text, "!busy")) {
        free(text);
        return fail(err, OCT_UNAVAILABLE, "The engine is currently busy");
    }
    oct_request *r = calloc(1, sizeof *r);
    r->engine = engine;
    r->params = *params;
    r->prompt_tokens = (int)prompt_length;
    r->delay_ms = word(text, "!delay=", 0);
    r->eos_after = word(text, "!eos=", -1);
    r->fail_at = word(text, "!fail=", -1);
    r->stop_token = -1;
    r->notify = notify;
    r->context = context;
    const char *say = strstr(text, "!say="), *end = say ? strchr(say, ';') : NULL;
    r->script_length = end ? (size_t)(end - say - 5) : length;
    r->script = malloc(r->script_length);
    memcpy(r->script, end ? say + 5 : text, r->script_length);
    if (strstr(text, "!seeded")) {
        r->script_length = 1;
        r->script[0] = params->has_seed ? (char)('a' + params->seed % 26) : '?';
    }
    free(text);
    r->text = calloc(MAX_MODEL_LEN + 1, 1);
    r->out_text = calloc(MAX_MODEL_LEN + 1, 1);
    r->ids = calloc(MAX_MODEL_LEN + 1, sizeof *r->ids);
    r->out_ids = calloc(MAX_MODEL_LEN + 1, sizeof *r->out_ids);
    r->out_logprobs = calloc((size_t)(MAX_MODEL_LEN + 1) * (size_t)(params->logprobs + 1), sizeof *r->out_logprobs);
    size_t width = (size_t)params->prompt_logprobs;
    if (width > 0) r->prompt_logprobs = calloc(prompt_length * width, sizeof *r->prompt_logprobs);
    for (size_t i = 1; width > 0 && i < prompt_length; i++)
        for (size_t j = 0; j < width; j++)
            r->prompt_logprobs[(i - 1) * width + j] = (oct_token_logprob){
                .id = prompt[i] + (int32_t)(j > 1 ? j - 1 : 0), .logprob = -0.25F * (float)(j > 1 ? j : 1), .rank = j > 1 ? (int32_t)j : 1};
    r->stops = calloc(params->num_stop + 1, sizeof *r->stops);
    for (size_t i = 0; i < params->num_stop; i++) r->stops[i] = strdup(params->stop[i]);
    pthread_mutex_lock(&engine->lock);
    engine->prompt_tokens += prompt_length;
    r->next = engine->requests;
    engine->requests = r;
    pthread_cond_broadcast(&engine->changed);
    pthread_mutex_unlock(&engine->lock);
    *out = r;
    return OCT_OK;
}

// Bytes at the end of the text that may yet become part of a stop string or of a character.
static size_t held_back(const oct_request *r) {
    size_t held = 0;
    if (r->finished) return 0;
    for (size_t i = 0; i < r->params.num_stop; i++)
        if (strlen(r->stops[i]) > held + 1) held = strlen(r->stops[i]) - 1;
    if (held > r->text_length - r->shown) held = r->text_length - r->shown;
    size_t end = r->text_length - held, start = end;
    while (start > r->shown && end - start < 4 && ((unsigned char)r->text[start - 1] & 0xc0) == 0x80) start--;
    if (start > r->shown && ((unsigned char)r->text[start - 1]) >= 0xc0) {
        unsigned char lead = (unsigned char)r->text[start - 1];
        size_t needed = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
        if (end - (start - 1) < needed) held += end - (start - 1);
    }
    return held;
}

bool oct_request_next(oct_request *r, double timeout_seconds, oct_delta *delta) {
    (void)timeout_seconds; // the server never waits
    pthread_mutex_lock(&r->engine->lock);
    bool something = (r->made > r->taken || r->finished) && !r->delivered;
    if (something) {
        int k = r->params.logprobs;
        size_t upto = r->text_length - held_back(r);
        if (upto < r->shown) upto = r->shown;
        memcpy(r->out_text, r->text + r->shown, upto - r->shown);
        int count = r->made - r->taken;
        memcpy(r->out_ids, r->ids + r->taken, (size_t)count * sizeof *r->ids);
        for (int i = 0; i < count; i++)
            for (int j = 0; j < k; j++) {
                int32_t id = j == 0 ? r->out_ids[i] : j == 1 ? r->out_ids[i] : (r->out_ids[i] + j) % VOCABULARY;
                r->out_logprobs[i * k + j] = (oct_token_logprob){.id = id, .logprob = j < 2 ? -0.5F : -0.5F * (float)j};
            }
        *delta = (oct_delta){.text = r->out_text,
                             .text_length = upto - r->shown,
                             .token_ids = r->out_ids,
                             .num_tokens = (size_t)count,
                             .logprobs = k > 0 ? r->out_logprobs : NULL,
                             .num_logprobs = (size_t)k,
                             .prompt_logprobs = r->prompt_shown ? NULL : r->prompt_logprobs,
                             .num_prompt_logprobs = (size_t)r->params.prompt_logprobs,
                             .finish = r->finished ? r->finish : OCT_RUNNING,
                             .stop_string = r->stop_string,
                             .stop_token = r->stop_token,
                             .prompt_tokens = r->prompt_tokens,
                             .completion_tokens = r->made,
                             .error = r->finish == OCT_FINISH_ERROR ? &r->error : NULL};
        r->prompt_shown = true;
        r->shown = upto;
        r->taken = r->made;
        r->delivered = r->finished;
    }
    pthread_mutex_unlock(&r->engine->lock);
    return something;
}

void oct_request_cancel(oct_request *r) {
    pthread_mutex_lock(&r->engine->lock);
    r->cancelled = true;
    pthread_cond_broadcast(&r->engine->changed);
    pthread_mutex_unlock(&r->engine->lock);
}

void oct_request_free(oct_request *r) {
    if (!r) return;
    pthread_mutex_lock(&r->engine->lock);
    oct_request **at = &r->engine->requests;
    while (*at != r) at = &(*at)->next;
    *at = r->next;
    pthread_mutex_unlock(&r->engine->lock);
    for (size_t i = 0; i < r->params.num_stop; i++) free(r->stops[i]);
    free(r->stops);
    free(r->script);
    free(r->text);
    free(r->out_text);
    free(r->ids);
    free(r->out_ids);
    free(r->out_logprobs);
    free(r->prompt_logprobs);
    free(r);
}

void oct_engine_get_stats(oct_engine *engine, oct_engine_stats *stats) {
    pthread_mutex_lock(&engine->lock);
    *stats = (oct_engine_stats){.blocks_total = 100,
                                .prompt_tokens = engine->prompt_tokens,
                                .generation_tokens = engine->generation_tokens,
                                .steps = engine->steps};
    for (oct_request *r = engine->requests; r; r = r->next) stats->running += !r->finished;
    pthread_mutex_unlock(&engine->lock);
}

bool oct_engine_is_healthy(oct_engine *engine) {
    (void)engine;
    return true;
}

void oct_free(void *pointer) {
    free(pointer);
}

const char *oct_version(void) {
    return OCTAVO_VERSION;
}
