// jinja_parser.h: what the parsers of expressions and of statements share.
#pragma once

#include "text/jinja_syntax.h"

struct jinja_parser {
    struct jinja *j;
    const struct jinja_token *tokens;
    size_t at;
    struct jinja_template *template;
    int loops; // around the current place, in this macro
    // The first unknown filter or test, text is NULL: none. In a ternary or under an if it is forgotten, and fails only when it is reached.
    struct oct_span unknown;
    const char *unknown_kind;
    uint32_t unknown_line;
};

// A list under construction.
struct jinja_chain {
    struct jinja_node *first, **end;
};

// Tokens. accept takes the token if it is this one; expect fails with what was found instead.
const struct jinja_token *jinja_peek(struct jinja_parser *parser);
bool jinja_is_operator(const struct jinja_token *token, const char *text);
bool jinja_is_name(const struct jinja_token *token, const char *text);
bool jinja_accept_operator(struct jinja_parser *parser, const char *text);
bool jinja_accept_name(struct jinja_parser *parser, const char *text);
void jinja_expect_operator(struct jinja_parser *parser, const char *text);
void jinja_expect_end(struct jinja_parser *parser, enum jinja_token_type type); // PRINT_END or BLOCK_END
struct oct_span jinja_expect_name(struct jinja_parser *parser);
_Noreturn void jinja_unexpected(struct jinja_parser *parser, const char *expected);

// Nodes.
struct jinja_node *jinja_new_node(struct jinja_parser *parser, enum jinja_node_kind kind, struct jinja_node *left);
struct jinja_node *jinja_new_name(struct jinja_parser *parser, struct oct_span name);
int32_t jinja_intern(struct jinja_parser *parser, struct oct_span name);
void jinja_chain_add(struct jinja_chain *chain, struct jinja_node *node);

// jinja_expression.c
struct jinja_node *jinja_parse_expression(struct jinja_parser *parser);
// An expression, or several with commas between them: a tuple. conditional: the parts may be ternaries.
struct jinja_node *jinja_parse_tuple(struct jinja_parser *parser, bool conditional, bool in_parentheses);
bool jinja_ends_tuple(struct jinja_parser *parser); // the next token can only stand behind a tuple
// What stands behind '|', onto `node`, which is NULL in a filter block.
struct jinja_node *jinja_parse_filter(struct jinja_parser *parser, struct jinja_node *node);
