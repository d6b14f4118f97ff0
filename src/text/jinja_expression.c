// Parses expressions by recursive descent, one function for each level of precedence (spec templates, "Precedence").
#include "text/jinja_parser.h"

static struct jinja_node *parse_unary(struct jinja_parser *parser, bool with_filter);
static struct jinja_node *parse_primary(struct jinja_parser *parser);
static struct jinja_node *parse_postfix(struct jinja_parser *parser, struct jinja_node *node);

const struct jinja_token *jinja_peek(struct jinja_parser *parser) {
    const struct jinja_token *token = &parser->tokens[parser->at];
    parser->j->line = token->line;
    return token;
}

static const struct jinja_token *take(struct jinja_parser *parser) {
    const struct jinja_token *token = jinja_peek(parser);
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

bool jinja_is_operator(const struct jinja_token *token, const char *text) {
    return token->type == TOKEN_OPERATOR && jinja_span_is(token->text, text);
}

bool jinja_is_name(const struct jinja_token *token, const char *text) {
    return token->type == TOKEN_NAME && jinja_span_is(token->text, text);
}

bool jinja_accept_operator(struct jinja_parser *parser, const char *text) {
    if (!jinja_is_operator(jinja_peek(parser), text)) return false;
    parser->at++;
    return true;
}

bool jinja_accept_name(struct jinja_parser *parser, const char *text) {
    if (!jinja_is_name(jinja_peek(parser), text)) return false;
    parser->at++;
    return true;
}

_Noreturn void jinja_unexpected(struct jinja_parser *parser, const char *expected) {
    const struct jinja_token *token = jinja_peek(parser);
    if (token->type == TOKEN_OPERATOR || token->type == TOKEN_NAME) {
        jinja_fail(parser->j, "%s expected, '%.*s' found", expected, (int)(token->text.length < 80 ? token->text.length : 80),
                   token->text.text);
    }
    jinja_fail(parser->j, "%s expected, %s found", expected, describe(token));
}

void jinja_expect_operator(struct jinja_parser *parser, const char *text) {
    if (!jinja_accept_operator(parser, text)) jinja_unexpected(parser, text);
}

void jinja_expect_end(struct jinja_parser *parser, enum jinja_token_type type) {
    if (jinja_peek(parser)->type != type)
        jinja_unexpected(parser, type == TOKEN_PRINT_END ? "end of print statement" : "end of statement block");
    parser->at++;
}

struct oct_span jinja_expect_name(struct jinja_parser *parser) {
    if (jinja_peek(parser)->type != TOKEN_NAME) jinja_unexpected(parser, "a name");
    return take(parser)->text;
}

struct jinja_node *jinja_new_node(struct jinja_parser *parser, enum jinja_node_kind kind, struct jinja_node *left) {
    struct jinja_node *node = jinja_alloc(parser->j, 1, sizeof *node);
    node->kind = kind;
    node->left = left;
    node->line = parser->j->line;
    return node;
}

static struct jinja_node *new_constant(struct jinja_parser *parser, struct jinja_value value) {
    struct jinja_node *node = jinja_new_node(parser, NODE_CONSTANT, NULL);
    node->constant = value;
    return node;
}

int32_t jinja_intern(struct jinja_parser *parser, struct oct_span name) {
    struct oct_token_table *symbols = &parser->template->symbols;
    int32_t symbol = oct_token_table_find(symbols, name.text, name.length);
    if (symbol >= 0) return symbol;
    if (symbols->size >= 100000) jinja_fail(parser->j, "more than 100000 different names");
    symbol = (int32_t)symbols->size;
    oct_token_table_add(symbols, symbol, name.text, name.length);
    return symbol;
}

struct jinja_node *jinja_new_name(struct jinja_parser *parser, struct oct_span name) {
    struct jinja_node *node = jinja_new_node(parser, NODE_NAME, NULL);
    node->symbol = jinja_intern(parser, name);
    return node;
}

void jinja_chain_add(struct jinja_chain *chain, struct jinja_node *node) {
    if (!chain->end) chain->end = &chain->first;
    *chain->end = node;
    chain->end = &node->next;
}

static void note_unknown(struct jinja_parser *parser, const char *kind, struct oct_span name) {
    if (parser->unknown.text) return;
    parser->unknown = name;
    parser->unknown_kind = kind;
    parser->unknown_line = parser->j->line;
}

static struct jinja_node *parse_arguments(struct jinja_parser *parser) {
    struct jinja_chain arguments = {0};
    jinja_expect_operator(parser, "(");
    while (!jinja_accept_operator(parser, ")")) {
        if (arguments.first) {
            jinja_expect_operator(parser, ",");
            if (jinja_accept_operator(parser, ")")) break;
        }
        const struct jinja_token *token = jinja_peek(parser);
        if (jinja_accept_operator(parser, "**")) {
            jinja_chain_add(&arguments, jinja_new_node(parser, NODE_SPREAD_DICT, jinja_parse_expression(parser)));
        } else if (jinja_accept_operator(parser, "*")) {
            jinja_chain_add(&arguments, jinja_new_node(parser, NODE_SPREAD, jinja_parse_expression(parser)));
        } else if (token->type == TOKEN_NAME && jinja_is_operator(token + 1, "=")) {
            parser->at += 2;
            struct jinja_node *keyword = jinja_new_node(parser, NODE_KEYWORD, jinja_parse_expression(parser));
            keyword->constant = jinja_string(parser->j, token->text);
            jinja_chain_add(&arguments, keyword);
        } else {
            jinja_chain_add(&arguments, jinja_parse_expression(parser));
        }
    }
    return arguments.first;
}

static struct jinja_node *parse_list(struct jinja_parser *parser) {
    struct jinja_chain items = {0};
    struct jinja_node *node = jinja_new_node(parser, NODE_LIST, NULL);
    jinja_expect_operator(parser, "[");
    while (!jinja_accept_operator(parser, "]")) {
        if (items.first) {
            jinja_expect_operator(parser, ",");
            if (jinja_accept_operator(parser, "]")) break;
        }
        jinja_chain_add(&items, jinja_parse_expression(parser));
    }
    node->items = items.first;
    return node;
}

static struct jinja_node *parse_dict(struct jinja_parser *parser) {
    struct jinja_chain items = {0};
    struct jinja_node *node = jinja_new_node(parser, NODE_DICT, NULL);
    jinja_expect_operator(parser, "{");
    while (!jinja_accept_operator(parser, "}")) {
        if (items.first) {
            jinja_expect_operator(parser, ",");
            if (jinja_accept_operator(parser, "}")) break;
        }
        jinja_chain_add(&items, jinja_parse_expression(parser));
        jinja_expect_operator(parser, ":");
        jinja_chain_add(&items, jinja_parse_expression(parser));
    }
    node->items = items.first;
    return node;
}

bool jinja_ends_tuple(struct jinja_parser *parser) {
    const struct jinja_token *token = jinja_peek(parser);
    return token->type == TOKEN_PRINT_END || token->type == TOKEN_BLOCK_END || jinja_is_operator(token, ")") ||
           jinja_is_name(token, "in") || jinja_is_name(token, "recursive");
}

static struct jinja_node *parse_or(struct jinja_parser *parser);

struct jinja_node *jinja_parse_tuple(struct jinja_parser *parser, bool conditional, bool in_parentheses) {
    struct jinja_chain items = {0};
    struct jinja_node *tuple = jinja_new_node(parser, NODE_TUPLE, NULL);
    bool comma = false;
    while (!jinja_ends_tuple(parser)) {
        jinja_chain_add(&items, conditional ? jinja_parse_expression(parser) : parse_or(parser));
        if (!jinja_accept_operator(parser, ",")) break;
        comma = true;
    }
    if (!items.first && !in_parentheses) jinja_unexpected(parser, "an expression");
    if (items.first && !comma) return items.first;
    tuple->items = items.first;
    return tuple;
}

static struct jinja_node *parse_primary(struct jinja_parser *parser) {
    const struct jinja_token *token = jinja_peek(parser);
    struct jinja_text joined = {0};
    struct jinja_node *node;
    switch (token->type) {
    case TOKEN_NAME:
        parser->at++;
        if (jinja_is_name(token, "true") || jinja_is_name(token, "True")) return new_constant(parser, jinja_bool(true));
        if (jinja_is_name(token, "false") || jinja_is_name(token, "False")) return new_constant(parser, jinja_bool(false));
        if (jinja_is_name(token, "none") || jinja_is_name(token, "None")) return new_constant(parser, jinja_none());
        return jinja_new_name(parser, token->text);
    case TOKEN_STRING:
        while (jinja_peek(parser)->type == TOKEN_STRING) jinja_text_add(parser->j, &joined, take(parser)->text);
        return new_constant(parser, jinja_text_value(parser->j, &joined));
    case TOKEN_INTEGER:
        parser->at++;
        return new_constant(parser, jinja_int(token->integer));
    case TOKEN_FLOAT:
        parser->at++;
        return new_constant(parser, jinja_float(token->real));
    case TOKEN_OPERATOR:
        if (jinja_is_operator(token, "[")) return parse_list(parser);
        if (jinja_is_operator(token, "{")) return parse_dict(parser);
        if (jinja_accept_operator(parser, "(")) {
            node = jinja_parse_tuple(parser, true, true);
            jinja_expect_operator(parser, ")");
            return node;
        }
        break;
    default:
        break;
    }
    jinja_unexpected(parser, "an expression");
}

static struct jinja_node *parse_subscript(struct jinja_parser *parser, struct jinja_node *node) {
    struct jinja_node *parts[3] = {NULL, NULL, NULL};
    int count = 0;
    bool slice = false, value = false;
    while (!jinja_is_operator(jinja_peek(parser), "]")) {
        if (jinja_accept_operator(parser, ":")) {
            slice = true;
            value = false;
            if (++count > 2) jinja_unexpected(parser, "]");
        } else {
            if (value) break;
            parts[count] = jinja_parse_expression(parser);
            value = true;
        }
    }
    struct jinja_node *result = jinja_new_node(parser, slice ? NODE_SLICE : NODE_ITEM, node);
    if (jinja_is_operator(jinja_peek(parser), ",") && !slice) {
        struct jinja_node *tuple = jinja_new_node(parser, NODE_TUPLE, NULL);
        struct jinja_chain items = {0};
        jinja_chain_add(&items, parts[0]);
        while (jinja_accept_operator(parser, ",")) jinja_chain_add(&items, jinja_parse_expression(parser));
        tuple->items = items.first;
        parts[0] = tuple;
    }
    if (!slice && !parts[0]) jinja_unexpected(parser, "an expression");
    jinja_expect_operator(parser, "]");
    result->right = parts[0];
    result->first = parts[0], result->second = parts[1], result->third = parts[2];
    return result;
}

static struct jinja_node *parse_call(struct jinja_parser *parser, struct jinja_node *callee) {
    struct jinja_node *node = jinja_new_node(parser, NODE_CALL, callee);
    node->arguments = parse_arguments(parser);
    return node;
}

static struct jinja_node *parse_postfix(struct jinja_parser *parser, struct jinja_node *node) {
    while (true) {
        const struct jinja_token *token = jinja_peek(parser);
        if (jinja_accept_operator(parser, ".")) {
            token = take(parser);
            struct jinja_node *outer = jinja_new_node(parser, token->type == TOKEN_INTEGER ? NODE_ITEM : NODE_ATTRIBUTE, node);
            if (token->type == TOKEN_INTEGER) {
                outer->right = new_constant(parser, jinja_int(token->integer));
            } else if (token->type == TOKEN_NAME) {
                outer->constant = jinja_string(parser->j, token->text);
            } else {
                jinja_fail(parser->j, "a name or number expected after '.'");
            }
            node = outer;
        } else if (jinja_accept_operator(parser, "[")) {
            node = parse_subscript(parser, node);
        } else if (jinja_is_operator(token, "(")) {
            node = parse_call(parser, node);
        } else {
            return node;
        }
    }
}

static struct oct_span parse_dotted_name(struct jinja_parser *parser) {
    struct oct_span name = jinja_expect_name(parser);
    while (jinja_accept_operator(parser, ".")) {
        struct oct_span part = jinja_expect_name(parser);
        name.length = (size_t)(part.text + part.length - name.text);
    }
    return name;
}

struct jinja_node *jinja_parse_filter(struct jinja_parser *parser, struct jinja_node *node) {
    struct jinja_node *filter = jinja_new_node(parser, NODE_FILTER, node);
    struct oct_span name = parse_dotted_name(parser);
    filter->constant = jinja_string(parser->j, name);
    filter->filter = jinja_find_filter(name);
    if (!filter->filter) note_unknown(parser, "filter", name);
    if (jinja_is_operator(jinja_peek(parser), "(")) filter->arguments = parse_arguments(parser);
    return filter;
}

static bool begins_test_argument(const struct jinja_token *token) {
    if (token->type == TOKEN_NAME) return !jinja_is_name(token, "else") && !jinja_is_name(token, "or") && !jinja_is_name(token, "and");
    if (token->type == TOKEN_OPERATOR) return jinja_is_operator(token, "[") || jinja_is_operator(token, "{");
    return token->type == TOKEN_STRING || token->type == TOKEN_INTEGER || token->type == TOKEN_FLOAT;
}

static struct jinja_node *parse_test(struct jinja_parser *parser, struct jinja_node *node) {
    bool negated = jinja_accept_name(parser, "not");
    struct jinja_node *test = jinja_new_node(parser, NODE_TEST, node);
    struct oct_span name = parse_dotted_name(parser);
    test->constant = jinja_string(parser->j, name);
    test->test = jinja_find_test(name);
    if (!test->test) note_unknown(parser, "test", name);
    if (jinja_is_operator(jinja_peek(parser), "(")) {
        test->arguments = parse_arguments(parser);
    } else if (begins_test_argument(jinja_peek(parser))) {
        if (jinja_is_name(jinja_peek(parser), "is")) jinja_fail(parser->j, "tests cannot be chained with 'is'");
        test->arguments = parse_postfix(parser, parse_primary(parser));
    }
    if (!negated) return test;
    struct jinja_node *not = jinja_new_node(parser, NODE_UNARY, test);
    not ->op = OP_NOT;
    return not ;
}

static struct jinja_node *parse_filters_and_tests(struct jinja_parser *parser, struct jinja_node *node) {
    while (true) {
        if (jinja_accept_operator(parser, "|")) {
            node = jinja_parse_filter(parser, node);
        } else if (jinja_accept_name(parser, "is")) {
            node = parse_test(parser, node);
        } else if (jinja_is_operator(jinja_peek(parser), "(")) {
            node = parse_call(parser, node);
        } else {
            return node;
        }
    }
}

static struct jinja_node *parse_unary(struct jinja_parser *parser, bool with_filter) {
    struct jinja_node *node;
    bool minus = jinja_accept_operator(parser, "-");
    jinja_enter(parser->j);
    if (minus || jinja_accept_operator(parser, "+")) {
        node = jinja_new_node(parser, NODE_UNARY, NULL);
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

static struct jinja_node *parse_binary(struct jinja_parser *parser, size_t level) {
    if (level == sizeof levels / sizeof *levels) return parse_unary(parser, true);
    struct jinja_node *node = parse_binary(parser, level + 1);
    for (size_t i = 0; i < 5 && levels[level][i].text; i++) {
        if (!jinja_accept_operator(parser, levels[level][i].text)) continue;
        struct jinja_node *outer = jinja_new_node(parser, NODE_BINARY, node);
        outer->op = levels[level][i].op;
        outer->right = parse_binary(parser, level + 1);
        node = outer;
        i = (size_t)-1;
    }
    return node;
}

static bool accept_comparison(struct jinja_parser *parser, enum jinja_operator *op) {
    static const struct {
        const char *text;
        enum jinja_operator op;
    } comparisons[] = {{"==", OP_EQUAL},      {"!=", OP_UNEQUAL}, {"<", OP_LESS},
                       {"<=", OP_LESS_EQUAL}, {">", OP_GREATER},  {">=", OP_GREATER_EQUAL}};
    const struct jinja_token *token = jinja_peek(parser);
    for (size_t i = 0; i < sizeof comparisons / sizeof *comparisons; i++) {
        if (jinja_accept_operator(parser, comparisons[i].text)) return *op = comparisons[i].op, true;
    }
    if (jinja_accept_name(parser, "in")) return *op = OP_IN, true;
    if (jinja_is_name(token, "not") && jinja_is_name(token + 1, "in")) {
        parser->at += 2;
        return *op = OP_NOT_IN, true;
    }
    return false;
}

static struct jinja_node *parse_comparison(struct jinja_parser *parser) {
    struct jinja_node *node = parse_binary(parser, 0);
    struct jinja_chain operands = {0};
    enum jinja_operator op;
    while (accept_comparison(parser, &op)) {
        struct jinja_node *operand = jinja_new_node(parser, NODE_OPERAND, parse_binary(parser, 0));
        operand->op = op;
        jinja_chain_add(&operands, operand);
    }
    if (!operands.first) return node;
    struct jinja_node *comparison = jinja_new_node(parser, NODE_COMPARE, node);
    comparison->items = operands.first;
    return comparison;
}

static struct jinja_node *parse_not(struct jinja_parser *parser) {
    if (!jinja_accept_name(parser, "not")) return parse_comparison(parser);
    struct jinja_node *node = jinja_new_node(parser, NODE_UNARY, NULL);
    node->op = OP_NOT;
    jinja_enter(parser->j);
    node->left = parse_not(parser);
    jinja_leave(parser->j);
    return node;
}

static struct jinja_node *parse_and(struct jinja_parser *parser) {
    struct jinja_node *node = parse_not(parser);
    while (jinja_accept_name(parser, "and")) {
        struct jinja_node *outer = jinja_new_node(parser, NODE_BINARY, node);
        outer->op = OP_AND;
        outer->right = parse_not(parser);
        node = outer;
    }
    return node;
}

static struct jinja_node *parse_or(struct jinja_parser *parser) {
    struct jinja_node *node = parse_and(parser);
    while (jinja_accept_name(parser, "or")) {
        struct jinja_node *outer = jinja_new_node(parser, NODE_BINARY, node);
        outer->op = OP_OR;
        outer->right = parse_and(parser);
        node = outer;
    }
    return node;
}

struct jinja_node *jinja_parse_expression(struct jinja_parser *parser) {
    struct oct_span before = parser->unknown;
    jinja_enter(parser->j);
    struct jinja_node *node = parse_or(parser);
    while (jinja_accept_name(parser, "if")) {
        struct jinja_node *condition = jinja_new_node(parser, NODE_CONDITION, node);
        condition->first = parse_or(parser);
        if (jinja_accept_name(parser, "else")) condition->second = jinja_parse_expression(parser);
        node = condition;
        parser->unknown = before;
    }
    jinja_leave(parser->j);
    return node;
}
