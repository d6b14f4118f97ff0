// jinja_syntax.h: tokens and the syntax tree. Both live in the arena of the compilation, which the template keeps.
#pragma once

#include "text/jinja_value.h"
#include "text/vocabulary.h"

enum jinja_token_type {
    TOKEN_DATA,  // text outside of tags
    TOKEN_PRINT, // {{
    TOKEN_PRINT_END,
    TOKEN_BLOCK, // {%
    TOKEN_BLOCK_END,
    TOKEN_NAME,
    TOKEN_STRING, // unescaped
    TOKEN_INTEGER,
    TOKEN_FLOAT,
    TOKEN_OPERATOR, // text is the operator
    TOKEN_END,
};

struct jinja_token {
    enum jinja_token_type type;
    uint32_t line;
    struct oct_span text;
    int64_t integer;
    double real;
};

// (*count) tokens, the last of them TOKEN_END.
struct jinja_token *jinja_tokenize(struct jinja *j, struct oct_span source, size_t *count);

enum jinja_node_kind {
    // expressions
    NODE_CONSTANT,  // constant
    NODE_NAME,      // symbol
    NODE_LIST,      // items
    NODE_TUPLE,     // items
    NODE_DICT,      // items: key, value, key, value, ...
    NODE_ATTRIBUTE, // left . constant
    NODE_ITEM,      // left [ right ]
    NODE_SLICE,     // left [ first : second : third ], each may be NULL
    NODE_CALL,      // left ( arguments )
    NODE_FILTER,    // left | filter ( arguments ); left is NULL in a filter block
    NODE_TEST,      // left is test ( arguments )
    NODE_UNARY,     // op left
    NODE_BINARY,    // left op right
    NODE_COMPARE,   // left, then items: each an OPERAND
    NODE_OPERAND,   // op left
    NODE_CONDITION, // left if first else second
    // arguments
    NODE_KEYWORD,     // constant = left
    NODE_SPREAD,      // *left
    NODE_SPREAD_DICT, // **left
    // statements
    NODE_DATA,             // constant
    NODE_PRINT,            // left
    NODE_IF,               // left, body, orelse; flag: orelse is an elif
    NODE_FOR,              // left (target) in right if first, body, orelse; flag: recursive
    NODE_SET,              // left (target) = right
    NODE_SET_BLOCK,        // left (target), right (filters), body
    NODE_ATTRIBUTE_TARGET, // symbol . constant
    NODE_MACRO,            // symbol, items (NAME nodes whose left is the default), body
    NODE_CALL_BLOCK,       // left (a CALL), right (a MACRO)
    NODE_FILTER_BLOCK,     // right (filters), body
    NODE_WITH,             // items: target, value, ...; body
    NODE_SCOPE,            // body
    NODE_BREAK,
    NODE_CONTINUE,
};

enum jinja_operator {
    OP_ADD,
    OP_SUBTRACT,
    OP_MULTIPLY,
    OP_DIVIDE,
    OP_FLOOR,
    OP_MODULO,
    OP_POWER,
    OP_CONCAT,
    OP_AND,
    OP_OR,
    OP_NOT,
    OP_NEGATE,
    OP_PLUS,
    OP_EQUAL,
    OP_UNEQUAL,
    OP_LESS,
    OP_LESS_EQUAL,
    OP_GREATER,
    OP_GREATER_EQUAL,
    OP_IN,
    OP_NOT_IN,
};

struct jinja_node {
    enum jinja_node_kind kind;
    enum jinja_operator op;
    bool flag;
    uint32_t line;
    int32_t symbol;
    struct jinja_node *left, *right, *first, *second, *third;
    struct jinja_node *items;         // linked by next
    struct jinja_node *arguments;     // linked by next
    struct jinja_node *body, *orelse; // statements, linked by next
    struct jinja_node *next;
    struct jinja_value constant;
    jinja_call filter; // NULL: unknown, which fails when it is reached
    jinja_test test;
};

struct jinja_template {
    char *name;
    struct jinja_arena arena;       // of the tree
    struct jinja_node *body;        // statements
    struct oct_token_table symbols; // names of variables
};

void jinja_parse(struct jinja *j, struct jinja_token *tokens, struct jinja_template *template);
