// Walks the tree: expressions give values, statements write text. A scope is a short list of variables with a parent; `if` has none of
// its own, each turn of a `for` and each call of a macro does.
#include "text/jinja_syntax.h"

#include "base/memory.h"
#include "text/unicode.h"

#include <stdlib.h>

struct jinja_scope {
    struct jinja_scope *parent;
    struct jinja_variable_slot {
        int32_t symbol;
        struct jinja_value value;
    } * slots; // (count)
    size_t count, capacity;
};

enum flow { FLOW_NEXT, FLOW_BREAK, FLOW_CONTINUE };

static struct jinja_value evaluate(struct jinja *j, struct jinja_scope *scope, const struct jinja_node *node);
static enum flow execute(struct jinja *j, struct jinja_scope *scope, const struct jinja_node *node);

static struct jinja_scope *new_scope(struct jinja *j, struct jinja_scope *parent) {
    struct jinja_scope *scope = jinja_alloc(j, 1, sizeof *scope);
    scope->parent = parent;
    return scope;
}

static void set_variable(struct jinja *j, struct jinja_scope *scope, int32_t symbol, struct jinja_value value) {
    for (size_t i = 0; i < scope->count; i++) {
        if (scope->slots[i].symbol != symbol) continue;
        scope->slots[i].value = value;
        return;
    }
    if (scope->count == scope->capacity) {
        size_t capacity = 2 * scope->capacity + 4;
        struct jinja_variable_slot *slots = jinja_alloc(j, capacity, sizeof *slots);
        if (scope->count) memcpy(slots, scope->slots, scope->count * sizeof *slots);
        scope->slots = slots;
        scope->capacity = capacity;
    }
    scope->slots[scope->count++] = (struct jinja_variable_slot){symbol, value};
}

static void set_named(struct jinja *j, struct jinja_scope *scope, const char *name, struct jinja_value value) {
    int32_t symbol = oct_token_table_find(&j->template->symbols, name, strlen(name));
    if (symbol >= 0) set_variable(j, scope, symbol, value); // a name that the template never reads needs no variable
}

static struct jinja_value variable(struct jinja *j, struct jinja_scope *scope, int32_t symbol) {
    for (; scope; scope = scope->parent) {
        jinja_charge(j, 16 * scope->count);
        for (size_t i = 0; i < scope->count; i++) {
            if (scope->slots[i].symbol == symbol) return scope->slots[i].value;
        }
    }
    size_t length;
    const char *name = oct_token_table_text(&j->template->symbols, symbol, &length);
    struct jinja_value undefined = jinja_string(j, (struct oct_span){.text = name, .length = length});
    undefined.type = JINJA_UNDEFINED;
    return undefined;
}

static struct jinja_value binary(struct jinja *j, struct jinja_scope *scope, const struct jinja_node *node) {
    struct jinja_value left = evaluate(j, scope, node->left);
    if (node->op == OP_AND) return jinja_truth(left) ? evaluate(j, scope, node->right) : left;
    if (node->op == OP_OR) return jinja_truth(left) ? left : evaluate(j, scope, node->right);
    struct jinja_value right = evaluate(j, scope, node->right);
    j->line = node->line;
    return jinja_binary(j, node->op, left, right);
}

static struct jinja_value compare(struct jinja *j, struct jinja_scope *scope, const struct jinja_node *node) {
    struct jinja_value left = evaluate(j, scope, node->left);
    for (const struct jinja_node *operand = node->items; operand; operand = operand->next) {
        struct jinja_value right = evaluate(j, scope, operand->left);
        j->line = node->line;
        if (!jinja_compare_by(j, operand->op, left, right)) return jinja_bool(false);
        left = right;
    }
    return jinja_bool(true);
}

static void spread_dict(struct jinja *j, struct jinja_value value, struct jinja_arguments *out) {
    if (value.type != JINJA_DICT) jinja_fail(j, "argument after ** must be a mapping, not %s", jinja_type_name(value));
    struct jinja_argument *named = jinja_alloc(j, out->num_named + value.dict->count + 1, sizeof *named);
    if (out->num_named) memcpy(named, out->named, out->num_named * sizeof *named);
    for (size_t i = 0; i < value.dict->count; i++) {
        if (!jinja_is_string(value.dict->pairs[i].key)) jinja_fail(j, "keywords must be strings");
        named[out->num_named++] = (struct jinja_argument){*value.dict->pairs[i].key.string, value.dict->pairs[i].value};
    }
    out->named = named;
}

static struct jinja_arguments evaluate_arguments(struct jinja *j, struct jinja_scope *scope, const struct jinja_node *nodes) {
    struct jinja_arguments out = {0};
    struct jinja_list positional = {0};
    size_t num_named = 0;
    for (const struct jinja_node *node = nodes; node; node = node->next) num_named += node->kind == NODE_KEYWORD;
    if (num_named) out.named = jinja_alloc(j, num_named, sizeof *out.named);
    for (const struct jinja_node *node = nodes; node; node = node->next) {
        if (node->kind == NODE_KEYWORD) {
            out.named[out.num_named++] = (struct jinja_argument){*node->constant.string, evaluate(j, scope, node->left)};
        } else if (node->kind == NODE_SPREAD) {
            const struct jinja_list *list = jinja_iterate(j, evaluate(j, scope, node->left));
            for (size_t i = 0; i < list->count; i++) jinja_append(j, &positional, list->items[i]);
        } else if (node->kind != NODE_SPREAD_DICT) {
            jinja_append(j, &positional, evaluate(j, scope, node));
        }
    }
    for (const struct jinja_node *node = nodes; node; node = node->next) {
        if (node->kind == NODE_SPREAD_DICT) spread_dict(j, evaluate(j, scope, node->left), &out);
    }
    out.positional = positional.items;
    out.count = positional.count;
    return out;
}

// Runs statements with their output going to *text.
static void capture(struct jinja *j, struct jinja_scope *scope, const struct jinja_node *body, struct jinja_text *text) {
    struct jinja_text *before = j->out;
    j->out = text;
    execute(j, scope, body);
    j->out = before;
}

static struct jinja_value call_macro(struct jinja *j, const struct jinja_macro *macro, const struct jinja_arguments *arguments) {
    struct jinja_scope *scope = new_scope(j, macro->scope);
    size_t used = 0, position = 0;
    bool *taken = jinja_alloc(j, arguments->num_named + 1, sizeof *taken);
    for (const struct jinja_node *parameter = macro->node->items; parameter; parameter = parameter->next, position++) {
        size_t length;
        const char *name = oct_token_table_text(&j->template->symbols, parameter->symbol, &length);
        struct jinja_value value = jinja_undefined();
        bool given = position < arguments->count;
        if (given) value = arguments->positional[position], used++;
        for (size_t i = 0; i < arguments->num_named; i++) {
            const struct jinja_argument *named = &arguments->named[i];
            if (named->name.length != length || memcmp(named->name.text, name, length) != 0) continue;
            if (given) jinja_fail(j, "macro got multiple values for argument '%.*s'", (int)length, name);
            value = named->value, given = taken[i] = true;
        }
        if (!given && parameter->left) value = evaluate(j, scope, parameter->left);
        if (jinja_is_undefined(value) && !given && !parameter->left)
            value = jinja_undefined_named(jinja_string(j, (struct oct_span){name, NULL, length}));
        set_variable(j, scope, parameter->symbol, value);
    }
    struct jinja_value rest = jinja_new_list(j, JINJA_TUPLE, 0), named = jinja_new_dict(j);
    for (; used < arguments->count; used++) jinja_append(j, rest.list, arguments->positional[used]);
    for (size_t i = 0; i < arguments->num_named; i++) {
        if (taken[i]) continue;
        if (jinja_span_is(arguments->named[i].name, "caller")) {
            set_named(j, scope, "caller", arguments->named[i].value);
        } else {
            jinja_set(j, named.dict, jinja_string(j, arguments->named[i].name), arguments->named[i].value);
        }
    }
    const struct oct_span *name = macro->node->constant.string;
    if (!macro->uses_rest && (rest.list->count || named.dict->count)) {
        jinja_fail(j, "macro '%.*s' takes not more than %zu argument(s), or got an unknown keyword",
                   (int)(name->length < 80 ? name->length : 80), name->text, position);
    }
    set_named(j, scope, "varargs", rest);
    set_named(j, scope, "kwargs", named);
    struct jinja_text text = {0};
    capture(j, scope, macro->node->body, &text);
    return jinja_text_value(j, &text);
}

static enum flow run_loop(struct jinja *j, struct jinja_scope *scope, const struct jinja_node *node, struct jinja_value source,
                          size_t depth0);

struct jinja_value jinja_call_value(struct jinja *j, struct jinja_value callee, const struct jinja_arguments *arguments) {
    struct jinja_value result;
    jinja_enter(j);
    if (callee.type == JINJA_FUNCTION) {
        result = callee.function->call(j, callee.function->self, arguments);
    } else if (callee.type == JINJA_MACRO) {
        result = call_macro(j, callee.macro, arguments);
    } else if (callee.type == JINJA_LOOP && callee.loop->node) {
        struct jinja_text text = {0}, *before = j->out;
        j->out = &text;
        run_loop(j, callee.loop->scope, callee.loop->node, jinja_required(j, arguments, 0, "iterable"), callee.loop->depth0 + 1);
        j->out = before;
        result = jinja_text_value(j, &text);
    } else if (callee.type == JINJA_JOINER) {
        struct jinja_cycler *joiner = callee.cycler;
        result = joiner->at++ ? joiner->list->items[0] : jinja_string_of(j, "");
    } else if (jinja_is_undefined(callee)) {
        jinja_fail_undefined(j, callee);
    } else {
        jinja_fail(j, "'%s' object is not callable", jinja_type_name(callee));
    }
    jinja_leave(j);
    return result;
}

static struct jinja_value apply_filter(struct jinja *j, struct jinja_scope *scope, const struct jinja_node *node,
                                       struct jinja_value input) {
    struct jinja_arguments arguments = evaluate_arguments(j, scope, node->arguments);
    j->line = node->line;
    if (!node->filter) {
        struct oct_span name = *node->constant.string;
        jinja_fail(j, "no filter named '%.*s'", (int)(name.length < 80 ? name.length : 80), name.text);
    }
    return node->filter(j, input, &arguments);
}

// The filters of a set or filter block, innermost first.
static struct jinja_value apply_filters(struct jinja *j, struct jinja_scope *scope, const struct jinja_node *node,
                                        struct jinja_value input) {
    if (!node) return input;
    return apply_filter(j, scope, node, apply_filters(j, scope, node->left, input));
}

static struct jinja_value apply_test(struct jinja *j, struct jinja_scope *scope, const struct jinja_node *node) {
    struct jinja_value value = evaluate(j, scope, node->left);
    struct jinja_arguments arguments = evaluate_arguments(j, scope, node->arguments);
    j->line = node->line;
    if (!node->test) {
        struct oct_span name = *node->constant.string;
        jinja_fail(j, "no test named '%.*s'", (int)(name.length < 80 ? name.length : 80), name.text);
    }
    return jinja_bool(node->test(j, value, &arguments));
}

static struct jinja_value evaluate_items(struct jinja *j, struct jinja_scope *scope, const struct jinja_node *node) {
    struct jinja_value result = jinja_new_list(j, node->kind == NODE_LIST ? JINJA_LIST : JINJA_TUPLE, 0);
    for (const struct jinja_node *item = node->items; item; item = item->next) jinja_append(j, result.list, evaluate(j, scope, item));
    return result;
}

static struct jinja_value evaluate_dict(struct jinja *j, struct jinja_scope *scope, const struct jinja_node *node) {
    struct jinja_value result = jinja_new_dict(j);
    for (const struct jinja_node *item = node->items; item; item = item->next->next) {
        struct jinja_value key = evaluate(j, scope, item);
        jinja_set(j, result.dict, key, evaluate(j, scope, item->next));
    }
    return result;
}

static struct jinja_value evaluate_or_none(struct jinja *j, struct jinja_scope *scope, const struct jinja_node *node) {
    return node ? evaluate(j, scope, node) : jinja_none();
}

static struct jinja_value evaluate_kind(struct jinja *j, struct jinja_scope *scope, const struct jinja_node *node) {
    struct jinja_value object, key;
    struct jinja_arguments arguments;
    switch (node->kind) {
    case NODE_CONSTANT:
        return node->constant;
    case NODE_NAME:
        return variable(j, scope, node->symbol);
    case NODE_LIST:
    case NODE_TUPLE:
        return evaluate_items(j, scope, node);
    case NODE_DICT:
        return evaluate_dict(j, scope, node);
    case NODE_ATTRIBUTE:
        object = evaluate(j, scope, node->left);
        j->line = node->line;
        return jinja_attribute(j, object, node->constant);
    case NODE_ITEM:
        object = evaluate(j, scope, node->left);
        key = evaluate(j, scope, node->right);
        j->line = node->line;
        return jinja_item(j, object, key);
    case NODE_SLICE:
        object = evaluate(j, scope, node->left);
        key = evaluate_or_none(j, scope, node->first);
        struct jinja_value second = evaluate_or_none(j, scope, node->second);
        return jinja_slice(j, object, key, second, evaluate_or_none(j, scope, node->third));
    case NODE_CALL:
        object = evaluate(j, scope, node->left);
        arguments = evaluate_arguments(j, scope, node->arguments);
        j->line = node->line;
        return jinja_call_value(j, object, &arguments);
    case NODE_FILTER:
        return apply_filter(j, scope, node, evaluate(j, scope, node->left));
    case NODE_TEST:
        return apply_test(j, scope, node);
    case NODE_UNARY:
        object = evaluate(j, scope, node->left);
        j->line = node->line;
        return jinja_unary(j, node->op, object);
    case NODE_BINARY:
        return binary(j, scope, node);
    case NODE_COMPARE:
        return compare(j, scope, node);
    case NODE_CONDITION:
        if (jinja_truth(evaluate(j, scope, node->first))) return evaluate(j, scope, node->left);
        return node->second ? evaluate(j, scope, node->second) : jinja_undefined();
    default:
        OCT_CHECK(false);
        return jinja_undefined();
    }
}

static struct jinja_value evaluate(struct jinja *j, struct jinja_scope *scope, const struct jinja_node *node) {
    jinja_enter(j);
    struct jinja_value value = evaluate_kind(j, scope, node);
    jinja_leave(j);
    return value;
}

static void assign(struct jinja *j, struct jinja_scope *scope, const struct jinja_node *target, struct jinja_value value) {
    if (target->kind == NODE_NAME) {
        set_variable(j, scope, target->symbol, value);
        return;
    }
    if (target->kind == NODE_ATTRIBUTE_TARGET) {
        struct jinja_value object = variable(j, scope, target->symbol);
        if (object.type != JINJA_NAMESPACE) jinja_fail(j, "cannot assign attribute on non-namespace object");
        if (target->constant.string->text[0] == '_') jinja_fail(j, "a namespace cannot have attributes that begin with an underscore");
        jinja_set(j, object.dict, target->constant, value);
        return;
    }
    size_t expected = 0, i = 0;
    for (const struct jinja_node *part = target->items; part; part = part->next) expected++;
    if (jinja_is_undefined(value)) jinja_fail_undefined(j, value);
    const struct jinja_list *list = jinja_iterate(j, value);
    if (list->count != expected) jinja_fail(j, "%zu values to unpack expected, %zu found", expected, list->count);
    jinja_enter(j);
    for (const struct jinja_node *part = target->items; part; part = part->next) assign(j, scope, part, list->items[i++]);
    jinja_leave(j);
}

static enum flow run_loop(struct jinja *j, struct jinja_scope *scope, const struct jinja_node *node, struct jinja_value source,
                          size_t depth0) {
    struct jinja_list *list = jinja_iterate(j, source);
    if (node->first) { // the filter comes before the loop's counters
        struct jinja_value kept = jinja_new_list(j, JINJA_LIST, 0);
        for (size_t i = 0; i < list->count; i++) {
            struct jinja_scope *inner = new_scope(j, scope);
            assign(j, inner, node->left, list->items[i]);
            if (jinja_truth(evaluate(j, inner, node->first))) jinja_append(j, kept.list, list->items[i]);
        }
        list = kept.list;
    }
    if (!list->count) return execute(j, new_scope(j, scope), node->orelse);
    struct jinja_loop *loop = jinja_alloc(j, 1, sizeof *loop);
    *loop = (struct jinja_loop){.list = list, .depth0 = depth0, .node = node->flag ? node : NULL, .scope = scope};
    for (size_t i = 0; i < list->count; i++) {
        struct jinja_scope *inner = new_scope(j, scope);
        loop->index0 = i;
        set_named(j, inner, "loop", (struct jinja_value){.type = JINJA_LOOP, .loop = loop});
        assign(j, inner, node->left, list->items[i]);
        if (execute(j, inner, node->body) == FLOW_BREAK) break;
    }
    return FLOW_NEXT;
}

// Whether the macro's body reads varargs, kwargs or caller is asked of the whole template: names are interned, so it is one look-up.
static struct jinja_value new_macro(struct jinja *j, struct jinja_scope *scope, const struct jinja_node *node) {
    const struct oct_token_table *symbols = &j->template->symbols;
    struct jinja_macro *macro = jinja_alloc(j, 1, sizeof *macro);
    *macro = (struct jinja_macro){node, scope, false};
    macro->uses_rest = oct_token_table_find(symbols, "varargs", 7) >= 0 || oct_token_table_find(symbols, "kwargs", 6) >= 0;
    return (struct jinja_value){.type = JINJA_MACRO, .macro = macro};
}

static void execute_call_block(struct jinja *j, struct jinja_scope *scope, const struct jinja_node *node) {
    struct jinja_value callee = evaluate(j, scope, node->left->left);
    struct jinja_arguments arguments = evaluate_arguments(j, scope, node->left->arguments);
    struct jinja_argument *named = jinja_alloc(j, arguments.num_named + 1, sizeof *named);
    if (arguments.num_named) memcpy(named, arguments.named, arguments.num_named * sizeof *named);
    named[arguments.num_named++] = (struct jinja_argument){{.text = "caller", .length = 6}, new_macro(j, scope, node->right)};
    arguments.named = named;
    jinja_print(j, j->out, jinja_call_value(j, callee, &arguments));
}

static enum flow execute_one(struct jinja *j, struct jinja_scope *scope, const struct jinja_node *node) {
    struct jinja_text text = {0};
    struct jinja_scope *inner;
    switch (node->kind) {
    case NODE_DATA:
        jinja_text_add(j, j->out, *node->constant.string);
        return FLOW_NEXT;
    case NODE_PRINT:
        jinja_print(j, j->out, evaluate(j, scope, node->left));
        return FLOW_NEXT;
    case NODE_IF:
        while (!jinja_truth(evaluate(j, scope, node->left))) {
            if (!node->flag) return execute(j, scope, node->orelse);
            node = node->orelse;
        }
        return execute(j, scope, node->body);
    case NODE_FOR:
        return run_loop(j, scope, node, evaluate(j, scope, node->right), 0);
    case NODE_SET:
        assign(j, scope, node->left, evaluate(j, scope, node->right));
        return FLOW_NEXT;
    case NODE_SET_BLOCK:
        capture(j, new_scope(j, scope), node->body, &text);
        assign(j, scope, node->left, apply_filters(j, scope, node->right, jinja_text_value(j, &text)));
        return FLOW_NEXT;
    case NODE_MACRO:
        set_variable(j, scope, node->symbol, new_macro(j, scope, node));
        return FLOW_NEXT;
    case NODE_CALL_BLOCK:
        execute_call_block(j, scope, node);
        return FLOW_NEXT;
    case NODE_FILTER_BLOCK:
        capture(j, new_scope(j, scope), node->body, &text);
        jinja_print(j, j->out, apply_filters(j, scope, node->right, jinja_text_value(j, &text)));
        return FLOW_NEXT;
    case NODE_WITH:
        inner = new_scope(j, scope);
        for (const struct jinja_node *item = node->items; item; item = item->next->next) {
            assign(j, inner, item, evaluate(j, scope, item->next));
        }
        return execute(j, inner, node->body);
    case NODE_SCOPE:
        return execute(j, new_scope(j, scope), node->body);
    case NODE_BREAK:
        return FLOW_BREAK;
    case NODE_CONTINUE:
        return FLOW_CONTINUE;
    default:
        OCT_CHECK(false);
        return FLOW_NEXT;
    }
}

static enum flow execute(struct jinja *j, struct jinja_scope *scope, const struct jinja_node *node) {
    enum flow flow = FLOW_NEXT;
    jinja_enter(j);
    for (; node && flow == FLOW_NEXT; node = node->next) {
        j->line = node->line;
        flow = execute_one(j, scope, node);
    }
    jinja_leave(j);
    return flow;
}

// The variables and built-in names that the template mentions.
static void fill_root(struct jinja *j, const struct jinja_variable *variables, size_t num_variables) {
    const struct oct_token_table *symbols = &j->template->symbols;
    for (int32_t symbol = 0; (size_t)symbol < symbols->size; symbol++) {
        struct oct_span name = {0};
        name.text = oct_token_table_text(symbols, symbol, &name.length);
        jinja_call call = jinja_find_global(name);
        if (!call) continue;
        struct jinja_function *function = jinja_alloc(j, 1, sizeof *function);
        *function = (struct jinja_function){"function", call, jinja_none()};
        set_variable(j, j->root, symbol, (struct jinja_value){.type = JINJA_FUNCTION, .function = function});
    }
    for (size_t i = 0; i < num_variables; i++) {
        int32_t symbol = oct_token_table_find(symbols, variables[i].name, strlen(variables[i].name));
        if (symbol >= 0) set_variable(j, j->root, symbol, jinja_from_json(j, variables[i].value, &variables[i]));
    }
}

static void render(struct jinja *j, const struct jinja_variable *variables, size_t num_variables, struct oct_marked_text *out) {
    struct jinja_text text = {0};
    j->out = &text;
    j->root = new_scope(j, NULL);
    fill_root(j, variables, num_variables);
    execute(j, new_scope(j, j->root), j->template->body);
    oct_marked_append(out, jinja_text_span(&text));
}

// The context stands in allocated memory, whose contents setjmp and longjmp leave alone.
static struct jinja *new_context(const char *name, const struct jinja_template *template, oct_error *err) {
    struct jinja *j = oct_alloc(1, sizeof *j, "a template");
    j->err = err;
    j->name = name;
    j->line = 1;
    j->arena.limit = JINJA_MAX_BYTES;
    j->template = template;
    return j;
}

oct_status jinja_render(const struct jinja_template *template, const struct jinja_variable *variables, size_t num_variables,
                        const struct tm *now, struct oct_marked_text *out, oct_error *err) {
    struct jinja *j = new_context(template->name, template, err);
    j->now = *now;
    if (setjmp(j->escape) == 0) render(j, variables, num_variables, out);
    oct_status status = j->status;
    jinja_arena_free(&j->arena);
    free(j);
    return status;
}

static void compile(struct jinja *j, struct oct_span source, struct jinja_template *template) {
    size_t count;
    if (!oct_utf8_valid(source.text, source.length)) jinja_fail(j, "the template is not valid UTF-8");
    struct jinja_token *tokens = jinja_tokenize(j, source, &count);
    jinja_parse(j, tokens, template);
}

oct_status jinja_compile(const char *name, const char *source, size_t length, struct jinja_template **out, oct_error *err) {
    struct jinja_template *template = oct_alloc(1, sizeof *template, "a template");
    template->name = oct_strdup(name);
    struct jinja *j = new_context(template->name, template, err);
    if (setjmp(j->escape) == 0) compile(j, (struct oct_span){.text = source, .length = length}, template);
    oct_status status = j->status;
    template->arena = j->arena;
    free(j);
    if (status != OCT_OK) jinja_template_free(template);
    *out = status == OCT_OK ? template : NULL;
    return status;
}

void jinja_template_free(struct jinja_template *template) {
    if (!template) return;
    jinja_arena_free(&template->arena);
    oct_token_table_free(&template->symbols);
    free(template->name);
    free(template);
}
