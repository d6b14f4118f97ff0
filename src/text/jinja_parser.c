// A recursive-descent parser, one function for each level of precedence (spec templates, "Precedence").
#include "text/jinja_syntax.h"

#include "base/memory.h"
#include "text/unicode.h"

#include <stdlib.h>

struct parser {
    struct jinja *j;
    const struct jinja_token *tokens;
    size_t at;
    struct jinja_template *template;
    int loops;               // around the current place, in this macro
    struct oct_span unknown; // the first unknown filter or test that is not in a branch; text is NULL: none
    const char *unknown_kind;
    uint32_t unknown_line;
};

static struct jinja_node *parse_expression(struct parser *parser);
static struct jinja_node *parse_unary(struct parser *parser, bool with_filter);
static struct jinja_node *parse_primary(struct parser *parser);
static struct jinja_node *parse_postfix(struct parser *parser, struct jinja_node *node);
static struct jinja_node *parse_body(struct parser *parser, const char *const *ends);

static const struct jinja_token *peek(struct parser *parser) {
    const struct jinja_token *token = &parser->tokens[parser->at];
    parser->j->line = token->line;
    return token;
}

static const struct jinja_token *take(struct parser *parser) {
    const struct jinja_token *token = peek(parser);
    if (token->type != TOKEN_END) parser->at++;
    return token;
}

static const char *describe(const struct jinja_token *token) {
    static const char *const names[] = {"text",
                                        "begin of print statement",
                                        "end of print statement",
                                        "begin of statement block",
                                        "end of statement block",
                                        "name",
                                        "string",
                                        "integer",
                                        "float",
                                        "operator",
                                        "end of template"};
    return names[token->type];
}

static bool is_operator(const struct jinja_token *token, const char *text) {
    return token->type == TOKEN_OPERATOR && jinja_span_is(token->text, text);
}

static bool is_name(const struct jinja_token *token, const char *text) {
    return token->type == TOKEN_NAME && jinja_span_is(token->text, text);
}

static bool accept_operator(struct parser *parser, const char *text) {
    if (!is_operator(peek(parser), text)) return false;
    parser->at++;
    return true;
}

static bool accept_name(struct parser *parser, const char *text) {
    if (!is_name(peek(parser), text)) return false;
    parser->at++;
    return true;
}

static _Noreturn void unexpected(struct parser *parser, const char *expected) {
    const struct jinja_token *token = peek(parser);
    if (token->type == TOKEN_OPERATOR || token->type == TOKEN_NAME) {
        jinja_fail(parser->j, "%s expected, '%.*s' found", expected, (int)(token->text.length < 80 ? token->text.length : 80),
                   token->text.text);
    }
    jinja_fail(parser->j, "%s expected, %s found", expected, describe(token));
}

static void expect_operator(struct parser *parser, const char *text) {
    if (!accept_operator(parser, text)) unexpected(parser, text);
}

static void expect_end(struct parser *parser, enum jinja_token_type type) {
    if (peek(parser)->type != type) unexpected(parser, type == TOKEN_PRINT_END ? "end of print statement" : "end of statement block");
    parser->at++;
}

static struct oct_span expect_name(struct parser *parser) {
    if (peek(parser)->type != TOKEN_NAME) unexpected(parser, "a name");
    return take(parser)->text;
}

static struct jinja_node *new_node(struct parser *parser, enum jinja_node_kind kind, struct jinja_node *left) {
    struct jinja_node *node = jinja_alloc(parser->j, 1, sizeof *node);
    node->kind = kind;
    node->left = left;
    node->line = parser->j->line;
    return node;
}

static struct jinja_node *new_constant(struct parser *parser, struct jinja_value value) {
    struct jinja_node *node = new_node(parser, NODE_CONSTANT, NULL);
    node->constant = value;
    return node;
}

static int32_t intern(struct parser *parser, struct oct_span name) {
    struct oct_token_table *symbols = &parser->template->symbols;
    int32_t symbol = oct_token_table_find(symbols, name.text, name.length);
    if (symbol >= 0) return symbol;
    if (symbols->size >= 100000) jinja_fail(parser->j, "more than 100000 different names");
    symbol = (int32_t)symbols->size;
    oct_token_table_add(symbols, symbol, name.text, name.length);
    return symbol;
}

static struct jinja_node *new_name(struct parser *parser, struct oct_span name) {
    struct jinja_node *node = new_node(parser, NODE_NAME, NULL);
    node->symbol = intern(parser, name);
    return node;
}

// A list under construction.
struct chain {
    struct jinja_node *first, **end;
};

static void chain_add(struct chain *chain, struct jinja_node *node) {
    if (!chain->end) chain->end = &chain->first;
    *chain->end = node;
    chain->end = &node->next;
}

static void note_unknown(struct parser *parser, const char *kind, struct oct_span name) {
    if (parser->unknown.text) return;
    parser->unknown = name;
    parser->unknown_kind = kind;
    parser->unknown_line = parser->j->line;
}

static struct jinja_node *parse_arguments(struct parser *parser) {
    struct chain arguments = {0};
    expect_operator(parser, "(");
    while (!accept_operator(parser, ")")) {
        if (arguments.first) {
            expect_operator(parser, ",");
            if (accept_operator(parser, ")")) break;
        }
        const struct jinja_token *token = peek(parser);
        if (accept_operator(parser, "**")) {
            chain_add(&arguments, new_node(parser, NODE_SPREAD_DICT, parse_expression(parser)));
        } else if (accept_operator(parser, "*")) {
            chain_add(&arguments, new_node(parser, NODE_SPREAD, parse_expression(parser)));
        } else if (token->type == TOKEN_NAME && is_operator(token + 1, "=")) {
            parser->at += 2;
            struct jinja_node *keyword = new_node(parser, NODE_KEYWORD, parse_expression(parser));
            keyword->constant = jinja_string(parser->j, token->text);
            chain_add(&arguments, keyword);
        } else {
            chain_add(&arguments, parse_expression(parser));
        }
    }
    return arguments.first;
}

static struct jinja_node *parse_list(struct parser *parser) {
    struct chain items = {0};
    struct jinja_node *node = new_node(parser, NODE_LIST, NULL);
    expect_operator(parser, "[");
    while (!accept_operator(parser, "]")) {
        if (items.first) {
            expect_operator(parser, ",");
            if (accept_operator(parser, "]")) break;
        }
        chain_add(&items, parse_expression(parser));
    }
    node->items = items.first;
    return node;
}

static struct jinja_node *parse_dict(struct parser *parser) {
    struct chain items = {0};
    struct jinja_node *node = new_node(parser, NODE_DICT, NULL);
    expect_operator(parser, "{");
    while (!accept_operator(parser, "}")) {
        if (items.first) {
            expect_operator(parser, ",");
            if (accept_operator(parser, "}")) break;
        }
        chain_add(&items, parse_expression(parser));
        expect_operator(parser, ":");
        chain_add(&items, parse_expression(parser));
    }
    node->items = items.first;
    return node;
}

static bool ends_tuple(struct parser *parser) {
    const struct jinja_token *token = peek(parser);
    return token->type == TOKEN_PRINT_END || token->type == TOKEN_BLOCK_END || is_operator(token, ")") || is_name(token, "in") ||
           is_name(token, "recursive");
}

static struct jinja_node *parse_or(struct parser *parser);

// An expression, or several with commas between them: a tuple. conditional: the parts may be ternaries.
static struct jinja_node *parse_tuple(struct parser *parser, bool conditional, bool in_parentheses) {
    struct chain items = {0};
    struct jinja_node *tuple = new_node(parser, NODE_TUPLE, NULL);
    bool comma = false;
    while (!ends_tuple(parser)) {
        chain_add(&items, conditional ? parse_expression(parser) : parse_or(parser));
        if (!accept_operator(parser, ",")) break;
        comma = true;
    }
    if (!items.first && !in_parentheses) unexpected(parser, "an expression");
    if (items.first && !comma) return items.first;
    tuple->items = items.first;
    return tuple;
}

static struct jinja_node *parse_primary(struct parser *parser) {
    const struct jinja_token *token = peek(parser);
    struct jinja_text joined = {0};
    struct jinja_node *node;
    switch (token->type) {
    case TOKEN_NAME:
        parser->at++;
        if (is_name(token, "true") || is_name(token, "True")) return new_constant(parser, jinja_bool(true));
        if (is_name(token, "false") || is_name(token, "False")) return new_constant(parser, jinja_bool(false));
        if (is_name(token, "none") || is_name(token, "None")) return new_constant(parser, jinja_none());
        return new_name(parser, token->text);
    case TOKEN_STRING:
        while (peek(parser)->type == TOKEN_STRING) jinja_text_add(parser->j, &joined, take(parser)->text);
        return new_constant(parser, jinja_text_value(parser->j, &joined));
    case TOKEN_INTEGER:
        parser->at++;
        return new_constant(parser, jinja_int(token->integer));
    case TOKEN_FLOAT:
        parser->at++;
        return new_constant(parser, jinja_float(token->real));
    case TOKEN_OPERATOR:
        if (is_operator(token, "[")) return parse_list(parser);
        if (is_operator(token, "{")) return parse_dict(parser);
        if (accept_operator(parser, "(")) {
            node = parse_tuple(parser, true, true);
            expect_operator(parser, ")");
            return node;
        }
        break;
    default:
        break;
    }
    unexpected(parser, "an expression");
}

static struct jinja_node *parse_subscript(struct parser *parser, struct jinja_node *node) {
    struct jinja_node *parts[3] = {NULL, NULL, NULL};
    int count = 0;
    bool slice = false, value = false;
    while (!is_operator(peek(parser), "]")) {
        if (accept_operator(parser, ":")) {
            slice = true;
            value = false;
            if (++count > 2) unexpected(parser, "]");
        } else {
            if (value) break;
            parts[count] = parse_expression(parser);
            value = true;
        }
    }
    struct jinja_node *result = new_node(parser, slice ? NODE_SLICE : NODE_ITEM, node);
    if (is_operator(peek(parser), ",") && !slice) {
        struct jinja_node *tuple = new_node(parser, NODE_TUPLE, NULL);
        struct chain items = {0};
        chain_add(&items, parts[0]);
        while (accept_operator(parser, ",")) chain_add(&items, parse_expression(parser));
        tuple->items = items.first;
        parts[0] = tuple;
    }
    if (!slice && !parts[0]) unexpected(parser, "an expression");
    expect_operator(parser, "]");
    result->right = parts[0];
    result->first = parts[0], result->second = parts[1], result->third = parts[2];
    return result;
}

static struct jinja_node *parse_call(struct parser *parser, struct jinja_node *callee) {
    struct jinja_node *node = new_node(parser, NODE_CALL, callee);
    node->arguments = parse_arguments(parser);
    return node;
}

static struct jinja_node *parse_postfix(struct parser *parser, struct jinja_node *node) {
    while (true) {
        const struct jinja_token *token = peek(parser);
        if (accept_operator(parser, ".")) {
            token = take(parser);
            struct jinja_node *outer = new_node(parser, token->type == TOKEN_INTEGER ? NODE_ITEM : NODE_ATTRIBUTE, node);
            if (token->type == TOKEN_INTEGER) {
                outer->right = new_constant(parser, jinja_int(token->integer));
            } else if (token->type == TOKEN_NAME) {
                outer->constant = jinja_string(parser->j, token->text);
            } else {
                jinja_fail(parser->j, "a name or number expected after '.'");
            }
            node = outer;
        } else if (accept_operator(parser, "[")) {
            node = parse_subscript(parser, node);
        } else if (is_operator(token, "(")) {
            node = parse_call(parser, node);
        } else {
            return node;
        }
    }
}

static struct oct_span parse_dotted_name(struct parser *parser) {
    struct oct_span name = expect_name(parser);
    while (accept_operator(parser, ".")) {
        struct oct_span part = expect_name(parser);
        name.length = (size_t)(part.text + part.length - name.text);
    }
    return name;
}

// What stands after '|', onto `node`, which is NULL in a filter block.
static struct jinja_node *parse_filter(struct parser *parser, struct jinja_node *node) {
    struct jinja_node *filter = new_node(parser, NODE_FILTER, node);
    struct oct_span name = parse_dotted_name(parser);
    filter->constant = jinja_string(parser->j, name);
    filter->filter = jinja_find_filter(name);
    if (!filter->filter) note_unknown(parser, "filter", name);
    if (is_operator(peek(parser), "(")) filter->arguments = parse_arguments(parser);
    return filter;
}

static bool begins_test_argument(const struct jinja_token *token) {
    if (token->type == TOKEN_NAME) return !is_name(token, "else") && !is_name(token, "or") && !is_name(token, "and");
    if (token->type == TOKEN_OPERATOR) return is_operator(token, "[") || is_operator(token, "{");
    return token->type == TOKEN_STRING || token->type == TOKEN_INTEGER || token->type == TOKEN_FLOAT;
}

static struct jinja_node *parse_test(struct parser *parser, struct jinja_node *node) {
    bool negated = accept_name(parser, "not");
    struct jinja_node *test = new_node(parser, NODE_TEST, node);
    struct oct_span name = parse_dotted_name(parser);
    test->constant = jinja_string(parser->j, name);
    test->test = jinja_find_test(name);
    if (!test->test) note_unknown(parser, "test", name);
    if (is_operator(peek(parser), "(")) {
        test->arguments = parse_arguments(parser);
    } else if (begins_test_argument(peek(parser))) {
        if (is_name(peek(parser), "is")) jinja_fail(parser->j, "tests cannot be chained with 'is'");
        test->arguments = parse_postfix(parser, parse_primary(parser));
    }
    if (!negated) return test;
    struct jinja_node *not = new_node(parser, NODE_UNARY, test);
    not ->op = OP_NOT;
    return not ;
}

static struct jinja_node *parse_filters_and_tests(struct parser *parser, struct jinja_node *node) {
    while (true) {
        if (accept_operator(parser, "|")) {
            node = parse_filter(parser, node);
        } else if (accept_name(parser, "is")) {
            node = parse_test(parser, node);
        } else if (is_operator(peek(parser), "(")) {
            node = parse_call(parser, node);
        } else {
            return node;
        }
    }
}

static struct jinja_node *parse_unary(struct parser *parser, bool with_filter) {
    struct jinja_node *node;
    bool minus = accept_operator(parser, "-");
    jinja_enter(parser->j);
    if (minus || accept_operator(parser, "+")) {
        node = new_node(parser, NODE_UNARY, NULL);
        node->op = minus ? OP_NEGATE : OP_PLUS;
        node->left = parse_unary(parser, false);
    } else {
        node = parse_primary(parser);
    }
    node = parse_postfix(parser, node);
    if (with_filter) node = parse_filters_and_tests(parser, node);
    jinja_leave(parser->j);
    return node;
}

// The levels of left-associative operators, loosest first.
static const struct {
    const char *text;
    enum jinja_operator op;
} levels[][5] = {
    {{"+", OP_ADD}, {"-", OP_SUBTRACT}},
    {{"~", OP_CONCAT}},
    {{"*", OP_MULTIPLY}, {"/", OP_DIVIDE}, {"//", OP_FLOOR}, {"%", OP_MODULO}},
    {{"**", OP_POWER}},
};

static struct jinja_node *parse_binary(struct parser *parser, size_t level) {
    if (level == sizeof levels / sizeof *levels) return parse_unary(parser, true);
    struct jinja_node *node = parse_binary(parser, level + 1);
    for (size_t i = 0; i < 5 && levels[level][i].text; i++) {
        if (!accept_operator(parser, levels[level][i].text)) continue;
        struct jinja_node *outer = new_node(parser, NODE_BINARY, node);
        outer->op = levels[level][i].op;
        outer->right = parse_binary(parser, level + 1);
        node = outer;
        i = (size_t)-1;
    }
    return node;
}

static bool accept_comparison(struct parser *parser, enum jinja_operator *op) {
    static const struct {
        const char *text;
        enum jinja_operator op;
    } comparisons[] = {{"==", OP_EQUAL},      {"!=", OP_UNEQUAL}, {"<", OP_LESS},
                       {"<=", OP_LESS_EQUAL}, {">", OP_GREATER},  {">=", OP_GREATER_EQUAL}};
    const struct jinja_token *token = peek(parser);
    for (size_t i = 0; i < sizeof comparisons / sizeof *comparisons; i++) {
        if (accept_operator(parser, comparisons[i].text)) return *op = comparisons[i].op, true;
    }
    if (accept_name(parser, "in")) return *op = OP_IN, true;
    if (is_name(token, "not") && is_name(token + 1, "in")) {
        parser->at += 2;
        return *op = OP_NOT_IN, true;
    }
    return false;
}

static struct jinja_node *parse_comparison(struct parser *parser) {
    struct jinja_node *node = parse_binary(parser, 0);
    struct chain operands = {0};
    enum jinja_operator op;
    while (accept_comparison(parser, &op)) {
        struct jinja_node *operand = new_node(parser, NODE_OPERAND, parse_binary(parser, 0));
        operand->op = op;
        chain_add(&operands, operand);
    }
    if (!operands.first) return node;
    struct jinja_node *comparison = new_node(parser, NODE_COMPARE, node);
    comparison->items = operands.first;
    return comparison;
}

static struct jinja_node *parse_not(struct parser *parser) {
    if (!accept_name(parser, "not")) return parse_comparison(parser);
    struct jinja_node *node = new_node(parser, NODE_UNARY, NULL);
    node->op = OP_NOT;
    jinja_enter(parser->j);
    node->left = parse_not(parser);
    jinja_leave(parser->j);
    return node;
}

static struct jinja_node *parse_and(struct parser *parser) {
    struct jinja_node *node = parse_not(parser);
    while (accept_name(parser, "and")) {
        struct jinja_node *outer = new_node(parser, NODE_BINARY, node);
        outer->op = OP_AND;
        outer->right = parse_not(parser);
        node = outer;
    }
    return node;
}

static struct jinja_node *parse_or(struct parser *parser) {
    struct jinja_node *node = parse_and(parser);
    while (accept_name(parser, "or")) {
        struct jinja_node *outer = new_node(parser, NODE_BINARY, node);
        outer->op = OP_OR;
        outer->right = parse_and(parser);
        node = outer;
    }
    return node;
}

// An unknown filter in a ternary or under an if is an error only when it is reached.
static void forgive_unknown(struct parser *parser, struct oct_span before) {
    parser->unknown = before;
}

static struct jinja_node *parse_expression(struct parser *parser) {
    struct oct_span before = parser->unknown;
    jinja_enter(parser->j);
    struct jinja_node *node = parse_or(parser);
    while (accept_name(parser, "if")) {
        struct jinja_node *condition = new_node(parser, NODE_CONDITION, node);
        condition->first = parse_or(parser);
        if (accept_name(parser, "else")) condition->second = parse_expression(parser);
        node = condition;
        forgive_unknown(parser, before);
    }
    jinja_leave(parser->j);
    return node;
}

static struct jinja_node *parse_target(struct parser *parser, bool with_attribute);

static struct jinja_node *parse_target_item(struct parser *parser, bool with_attribute) {
    if (accept_operator(parser, "(")) {
        struct jinja_node *node = parse_target(parser, false);
        expect_operator(parser, ")");
        return node;
    }
    struct oct_span name = expect_name(parser);
    static const char *const reserved[] = {"true", "false", "none", "True", "False", "None"};
    for (size_t i = 0; i < 6; i++) {
        if (jinja_span_is(name, reserved[i])) jinja_fail(parser->j, "can't assign to '%s'", reserved[i]);
    }
    struct jinja_node *node = new_name(parser, name);
    if (!with_attribute || !accept_operator(parser, ".")) return node;
    node->kind = NODE_ATTRIBUTE_TARGET;
    node->constant = jinja_string(parser->j, expect_name(parser));
    return node;
}

static struct jinja_node *parse_target(struct parser *parser, bool with_attribute) {
    jinja_enter(parser->j);
    struct jinja_node *tuple = new_node(parser, NODE_TUPLE, NULL);
    struct chain items = {0};
    bool comma = false;
    do {
        if (comma && (ends_tuple(parser) || is_operator(peek(parser), "="))) break;
        chain_add(&items, parse_target_item(parser, with_attribute));
    } while (accept_operator(parser, ",") && (comma = true));
    jinja_leave(parser->j);
    tuple->items = items.first;
    return comma ? tuple : items.first;
}

// A body up to one of `ends`, whose name is taken.
static bool ended_by(struct parser *parser, const char *end) {
    return is_name(&parser->tokens[parser->at - 1], end);
}

static void end_block(struct parser *parser) {
    expect_end(parser, TOKEN_BLOCK_END);
}

static struct jinja_node *parse_block_body(struct parser *parser, const char *end) {
    const char *const ends[] = {end, NULL};
    end_block(parser);
    struct jinja_node *body = parse_body(parser, ends);
    end_block(parser);
    return body;
}

static struct jinja_node *parse_if(struct parser *parser) {
    static const char *const ends[] = {"elif", "else", "endif", NULL}, *const else_ends[] = {"endif", NULL};
    struct jinja_node *node = new_node(parser, NODE_IF, NULL);
    struct jinja_node *current = node;
    struct oct_span before;
    while (true) {
        if (peek(parser)->type == TOKEN_BLOCK_END) unexpected(parser, "an expression");
        current->left = parse_tuple(parser, false, false);
        end_block(parser);
        before = parser->unknown;
        current->body = parse_body(parser, ends);
        forgive_unknown(parser, before);
        if (!ended_by(parser, "elif")) break;
        current->orelse = new_node(parser, NODE_IF, NULL);
        current->flag = true;
        current = current->orelse;
    }
    if (ended_by(parser, "else")) {
        end_block(parser);
        current->orelse = parse_body(parser, else_ends);
        forgive_unknown(parser, before);
    }
    end_block(parser);
    return node;
}

static struct jinja_node *parse_for(struct parser *parser) {
    static const char *const ends[] = {"endfor", "else", NULL}, *const else_ends[] = {"endfor", NULL};
    struct jinja_node *node = new_node(parser, NODE_FOR, NULL);
    node->left = parse_target(parser, false);
    if (!accept_name(parser, "in")) unexpected(parser, "in");
    node->right = parse_tuple(parser, false, false);
    if (accept_name(parser, "if")) node->first = parse_expression(parser);
    node->flag = accept_name(parser, "recursive");
    end_block(parser);
    parser->loops++;
    node->body = parse_body(parser, ends);
    parser->loops--;
    if (ended_by(parser, "else")) {
        end_block(parser);
        node->orelse = parse_body(parser, else_ends);
    }
    end_block(parser);
    return node;
}

static struct jinja_node *parse_set(struct parser *parser) {
    struct jinja_node *node = new_node(parser, NODE_SET, parse_target(parser, true));
    if (accept_operator(parser, "=")) {
        node->right = parse_tuple(parser, true, false);
        end_block(parser);
        return node;
    }
    node->kind = NODE_SET_BLOCK;
    if (accept_operator(parser, "|")) {
        node->right = parse_filter(parser, NULL);
        while (accept_operator(parser, "|")) node->right = parse_filter(parser, node->right);
    }
    node->body = parse_block_body(parser, "endset");
    return node;
}

static void parse_signature(struct parser *parser, struct jinja_node *macro) {
    struct chain parameters = {0};
    expect_operator(parser, "(");
    bool defaults = false;
    while (!accept_operator(parser, ")")) {
        if (parameters.first) {
            expect_operator(parser, ",");
            if (accept_operator(parser, ")")) break;
        }
        struct jinja_node *parameter = new_name(parser, expect_name(parser));
        if (accept_operator(parser, "=")) {
            parameter->left = parse_expression(parser);
            defaults = true;
        } else if (defaults) {
            jinja_fail(parser->j, "a parameter without a default follows one with a default");
        }
        chain_add(&parameters, parameter);
    }
    macro->items = parameters.first;
}

static struct jinja_node *parse_macro(struct parser *parser) {
    struct jinja_node *node = new_node(parser, NODE_MACRO, NULL);
    struct oct_span name = expect_name(parser);
    node->symbol = intern(parser, name);
    node->constant = jinja_string(parser->j, name);
    parse_signature(parser, node);
    int loops = parser->loops;
    parser->loops = 0;
    node->body = parse_block_body(parser, "endmacro");
    parser->loops = loops;
    return node;
}

static struct jinja_node *parse_call_block(struct parser *parser) {
    struct jinja_node *node = new_node(parser, NODE_CALL_BLOCK, NULL);
    node->right = new_node(parser, NODE_MACRO, NULL);
    node->right->symbol = intern(parser, (struct oct_span){.text = "caller", .length = 6});
    node->right->constant = jinja_string_of(parser->j, "caller");
    if (is_operator(peek(parser), "(")) parse_signature(parser, node->right);
    node->left = parse_expression(parser);
    if (node->left->kind != NODE_CALL) jinja_fail(parser->j, "a call expected after 'call'");
    int loops = parser->loops;
    parser->loops = 0;
    node->right->body = parse_block_body(parser, "endcall");
    parser->loops = loops;
    return node;
}

static struct jinja_node *parse_filter_block(struct parser *parser) {
    struct jinja_node *node = new_node(parser, NODE_FILTER_BLOCK, NULL);
    node->right = parse_filter(parser, NULL);
    while (accept_operator(parser, "|")) node->right = parse_filter(parser, node->right);
    node->body = parse_block_body(parser, "endfilter");
    return node;
}

static struct jinja_node *parse_with(struct parser *parser) {
    struct jinja_node *node = new_node(parser, NODE_WITH, NULL);
    struct chain items = {0};
    while (peek(parser)->type != TOKEN_BLOCK_END) {
        if (items.first) expect_operator(parser, ",");
        chain_add(&items, parse_target(parser, false));
        expect_operator(parser, "=");
        chain_add(&items, parse_expression(parser));
    }
    node->items = items.first;
    node->body = parse_block_body(parser, "endwith");
    return node;
}

static struct jinja_node *parse_generation(struct parser *parser) {
    struct jinja_node *node = new_node(parser, NODE_SCOPE, NULL);
    node->body = parse_block_body(parser, "endgeneration");
    return node;
}

static struct jinja_node *parse_loop_control(struct parser *parser, enum jinja_node_kind kind) {
    if (!parser->loops) jinja_fail(parser->j, "'%s' outside loop", kind == NODE_BREAK ? "break" : "continue");
    struct jinja_node *node = new_node(parser, kind, NULL);
    end_block(parser);
    return node;
}

static struct jinja_node *parse_break(struct parser *parser) {
    return parse_loop_control(parser, NODE_BREAK);
}

static struct jinja_node *parse_continue(struct parser *parser) {
    return parse_loop_control(parser, NODE_CONTINUE);
}

static struct jinja_node *parse_statement(struct parser *parser, struct oct_span tag) {
    static const struct {
        const char *tag;
        struct jinja_node *(*parse)(struct parser *);
    } statements[] = {
        {"if", parse_if},
        {"for", parse_for},
        {"set", parse_set},
        {"macro", parse_macro},
        {"call", parse_call_block},
        {"with", parse_with},
        {"filter", parse_filter_block},
        {"generation", parse_generation},
        {"break", parse_break},
        {"continue", parse_continue},
    };
    for (size_t i = 0; i < sizeof statements / sizeof *statements; i++) {
        if (jinja_span_is(tag, statements[i].tag)) return statements[i].parse(parser);
    }
    jinja_fail(parser->j, "unknown tag '%.*s'", (int)(tag.length < 80 ? tag.length : 80), tag.text);
}

// Statements up to a block tag named by one of `ends`, which is taken; to the end of the template where ends is NULL.
static struct jinja_node *parse_body(struct parser *parser, const char *const *ends) {
    struct chain body = {0};
    jinja_enter(parser->j);
    while (true) {
        const struct jinja_token *token = peek(parser);
        if (token->type == TOKEN_END) {
            if (ends) jinja_fail(parser->j, "unexpected end of template, '%s' expected", ends[0]);
            break;
        }
        parser->at++;
        if (token->type == TOKEN_DATA) {
            struct jinja_node *node = new_node(parser, NODE_DATA, NULL);
            node->constant = jinja_string(parser->j, token->text);
            chain_add(&body, node);
        } else if (token->type == TOKEN_PRINT) {
            chain_add(&body,
                      new_node(parser, NODE_PRINT,
                               peek(parser)->type == TOKEN_PRINT_END ? parse_tuple(parser, true, true) : parse_tuple(parser, true, false)));
            expect_end(parser, TOKEN_PRINT_END);
        } else {
            struct oct_span tag = expect_name(parser);
            bool ended = false;
            for (const char *const *end = ends; end && *end; end++) ended = ended || jinja_span_is(tag, *end);
            if (ended) break;
            chain_add(&body, parse_statement(parser, tag));
        }
    }
    jinja_leave(parser->j);
    return body.first;
}

void jinja_parse(struct jinja *j, struct jinja_token *tokens, struct jinja_template *template) {
    struct parser parser = {.j = j, .tokens = tokens, .template = template};
    template->body = parse_body(&parser, NULL);
    if (!parser.unknown.text) return;
    j->line = parser.unknown_line;
    jinja_fail(j, "no %s named '%.*s'", parser.unknown_kind, (int)(parser.unknown.length < 80 ? parser.unknown.length : 80),
               parser.unknown.text);
}
