// Parses statements: one function for each tag.
#include "text/jinja_parser.h"

static struct jinja_node *parse_body(struct jinja_parser *parser, const char *const *ends);
static struct jinja_node *parse_target(struct jinja_parser *parser, bool with_attribute);

static struct jinja_node *parse_target_item(struct jinja_parser *parser, bool with_attribute) {
    if (jinja_accept_operator(parser, "(")) {
        struct jinja_node *node = parse_target(parser, false);
        jinja_expect_operator(parser, ")");
        return node;
    }
    struct oct_span name = jinja_expect_name(parser);
    static const char *const reserved[] = {"true", "false", "none", "True", "False", "None"};
    for (size_t i = 0; i < 6; i++) {
        if (jinja_span_is(name, reserved[i])) jinja_fail(parser->j, "can't assign to '%s'", reserved[i]);
    }
    struct jinja_node *node = jinja_new_name(parser, name);
    if (!with_attribute || !jinja_accept_operator(parser, ".")) return node;
    node->kind = NODE_ATTRIBUTE_TARGET;
    node->constant = jinja_string(parser->j, jinja_expect_name(parser));
    return node;
}

static struct jinja_node *parse_target(struct jinja_parser *parser, bool with_attribute) {
    jinja_enter(parser->j);
    struct jinja_node *tuple = jinja_new_node(parser, NODE_TUPLE, NULL);
    struct jinja_chain items = {0};
    bool comma = false;
    do {
        if (comma && (jinja_ends_tuple(parser) || jinja_is_operator(jinja_peek(parser), "="))) break;
        jinja_chain_add(&items, parse_target_item(parser, with_attribute));
    } while (jinja_accept_operator(parser, ",") && (comma = true));
    jinja_leave(parser->j);
    tuple->items = items.first;
    return comma ? tuple : items.first;
}

// Whether the tag that ended a body, whose name was just taken, is `end`.
static bool ended_by(struct jinja_parser *parser, const char *end) {
    return jinja_is_name(&parser->tokens[parser->at - 1], end);
}

static void end_block(struct jinja_parser *parser) {
    jinja_expect_end(parser, TOKEN_BLOCK_END);
}

static struct jinja_node *parse_block_body(struct jinja_parser *parser, const char *end) {
    const char *const ends[] = {end, NULL};
    end_block(parser);
    struct jinja_node *body = parse_body(parser, ends);
    end_block(parser);
    return body;
}

static struct jinja_node *parse_if(struct jinja_parser *parser) {
    static const char *const ends[] = {"endif", "elif", "else", NULL}, *const else_ends[] = {"endif", NULL};
    struct jinja_node *node = jinja_new_node(parser, NODE_IF, NULL);
    struct jinja_node *current = node;
    struct oct_span before;
    while (true) {
        if (jinja_peek(parser)->type == TOKEN_BLOCK_END) jinja_unexpected(parser, "an expression");
        current->left = jinja_parse_tuple(parser, false, false);
        end_block(parser);
        before = parser->unknown;
        current->body = parse_body(parser, ends);
        parser->unknown = before;
        if (!ended_by(parser, "elif")) break;
        current->orelse = jinja_new_node(parser, NODE_IF, NULL);
        current->flag = true;
        current = current->orelse;
    }
    if (ended_by(parser, "else")) {
        end_block(parser);
        current->orelse = parse_body(parser, else_ends);
        parser->unknown = before;
    }
    end_block(parser);
    return node;
}

static struct jinja_node *parse_for(struct jinja_parser *parser) {
    static const char *const ends[] = {"endfor", "else", NULL}, *const else_ends[] = {"endfor", NULL};
    struct jinja_node *node = jinja_new_node(parser, NODE_FOR, NULL);
    node->left = parse_target(parser, false);
    if (!jinja_accept_name(parser, "in")) jinja_unexpected(parser, "in");
    node->right = jinja_parse_tuple(parser, false, false);
    if (jinja_accept_name(parser, "if")) node->first = jinja_parse_expression(parser);
    node->flag = jinja_accept_name(parser, "recursive");
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

static struct jinja_node *parse_set(struct jinja_parser *parser) {
    struct jinja_node *node = jinja_new_node(parser, NODE_SET, parse_target(parser, true));
    if (jinja_accept_operator(parser, "=")) {
        node->right = jinja_parse_tuple(parser, true, false);
        end_block(parser);
        return node;
    }
    node->kind = NODE_SET_BLOCK;
    if (jinja_accept_operator(parser, "|")) {
        node->right = jinja_parse_filter(parser, NULL);
        while (jinja_accept_operator(parser, "|")) node->right = jinja_parse_filter(parser, node->right);
    }
    node->body = parse_block_body(parser, "endset");
    return node;
}

static void parse_signature(struct jinja_parser *parser, struct jinja_node *macro) {
    struct jinja_chain parameters = {0};
    jinja_expect_operator(parser, "(");
    bool defaults = false;
    while (!jinja_accept_operator(parser, ")")) {
        if (parameters.first) {
            jinja_expect_operator(parser, ",");
            if (jinja_accept_operator(parser, ")")) break;
        }
        struct jinja_node *parameter = jinja_new_name(parser, jinja_expect_name(parser));
        if (jinja_accept_operator(parser, "=")) {
            parameter->left = jinja_parse_expression(parser);
            defaults = true;
        } else if (defaults) {
            jinja_fail(parser->j, "a parameter without a default follows one with a default");
        }
        jinja_chain_add(&parameters, parameter);
    }
    macro->items = parameters.first;
}

static struct jinja_node *parse_macro(struct jinja_parser *parser) {
    struct jinja_node *node = jinja_new_node(parser, NODE_MACRO, NULL);
    struct oct_span name = jinja_expect_name(parser);
    node->symbol = jinja_intern(parser, name);
    node->constant = jinja_string(parser->j, name);
    parse_signature(parser, node);
    int loops = parser->loops;
    parser->loops = 0;
    node->body = parse_block_body(parser, "endmacro");
    parser->loops = loops;
    return node;
}

static struct jinja_node *parse_call_block(struct jinja_parser *parser) {
    struct jinja_node *node = jinja_new_node(parser, NODE_CALL_BLOCK, NULL);
    node->right = jinja_new_node(parser, NODE_MACRO, NULL);
    node->right->symbol = jinja_intern(parser, (struct oct_span){.text = "caller", .length = 6});
    node->right->constant = jinja_string_of(parser->j, "caller");
    if (jinja_is_operator(jinja_peek(parser), "(")) parse_signature(parser, node->right);
    node->left = jinja_parse_expression(parser);
    if (node->left->kind != NODE_CALL) jinja_fail(parser->j, "a call expected after 'call'");
    int loops = parser->loops;
    parser->loops = 0;
    node->right->body = parse_block_body(parser, "endcall");
    parser->loops = loops;
    return node;
}

static struct jinja_node *parse_filter_block(struct jinja_parser *parser) {
    struct jinja_node *node = jinja_new_node(parser, NODE_FILTER_BLOCK, NULL);
    node->right = jinja_parse_filter(parser, NULL);
    while (jinja_accept_operator(parser, "|")) node->right = jinja_parse_filter(parser, node->right);
    node->body = parse_block_body(parser, "endfilter");
    return node;
}

static struct jinja_node *parse_with(struct jinja_parser *parser) {
    struct jinja_node *node = jinja_new_node(parser, NODE_WITH, NULL);
    struct jinja_chain items = {0};
    while (jinja_peek(parser)->type != TOKEN_BLOCK_END) {
        if (items.first) jinja_expect_operator(parser, ",");
        jinja_chain_add(&items, parse_target(parser, false));
        jinja_expect_operator(parser, "=");
        jinja_chain_add(&items, jinja_parse_expression(parser));
    }
    node->items = items.first;
    node->body = parse_block_body(parser, "endwith");
    return node;
}

static struct jinja_node *parse_generation(struct jinja_parser *parser) {
    struct jinja_node *node = jinja_new_node(parser, NODE_SCOPE, NULL);
    node->body = parse_block_body(parser, "endgeneration");
    return node;
}

static struct jinja_node *parse_loop_control(struct jinja_parser *parser, enum jinja_node_kind kind) {
    if (!parser->loops) jinja_fail(parser->j, "'%s' outside loop", kind == NODE_BREAK ? "break" : "continue");
    struct jinja_node *node = jinja_new_node(parser, kind, NULL);
    end_block(parser);
    return node;
}

static struct jinja_node *parse_break(struct jinja_parser *parser) {
    return parse_loop_control(parser, NODE_BREAK);
}

static struct jinja_node *parse_continue(struct jinja_parser *parser) {
    return parse_loop_control(parser, NODE_CONTINUE);
}

static struct jinja_node *parse_statement(struct jinja_parser *parser, struct oct_span tag) {
    static const struct {
        const char *tag;
        struct jinja_node *(*parse)(struct jinja_parser *);
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
static struct jinja_node *parse_body(struct jinja_parser *parser, const char *const *ends) {
    struct jinja_chain body = {0};
    jinja_enter(parser->j);
    while (true) {
        const struct jinja_token *token = jinja_peek(parser);
        if (token->type == TOKEN_END) {
            if (ends) jinja_fail(parser->j, "unexpected end of template, '%s' expected", ends[0]);
            break;
        }
        parser->at++;
        if (token->type == TOKEN_DATA) {
            struct jinja_node *node = jinja_new_node(parser, NODE_DATA, NULL);
            node->constant = jinja_string(parser->j, token->text);
            jinja_chain_add(&body, node);
        } else if (token->type == TOKEN_PRINT) {
            jinja_chain_add(&body, jinja_new_node(parser, NODE_PRINT,
                                                  jinja_peek(parser)->type == TOKEN_PRINT_END ? jinja_parse_tuple(parser, true, true)
                                                                                              : jinja_parse_tuple(parser, true, false)));
            jinja_expect_end(parser, TOKEN_PRINT_END);
        } else {
            struct oct_span tag = jinja_expect_name(parser);
            bool ended = false;
            for (const char *const *end = ends; end && *end; end++) ended = ended || jinja_span_is(tag, *end);
            if (ended) break;
            jinja_chain_add(&body, parse_statement(parser, tag));
        }
    }
    jinja_leave(parser->j);
    return body.first;
}

void jinja_parse(struct jinja *j, struct jinja_token *tokens, struct jinja_template *template) {
    struct jinja_parser parser = {.j = j, .tokens = tokens, .template = template};
    template->body = parse_body(&parser, NULL);
    if (!parser.unknown.text) return;
    j->line = parser.unknown_line;
    jinja_fail(j, "no %s named '%.*s'", parser.unknown_kind, (int)(parser.unknown.length < 80 ? parser.unknown.length : 80),
               parser.unknown.text);
}
