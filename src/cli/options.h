/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * options.h - command lines described by a table.
 *
 * One table per subcommand gives the parser and the --help page.  Options may stand before and
 * after operands; `--x=y` and `--x y` mean the same; `--` ends the options.  A mistake is one line
 * on stderr that names the option, and exit code 2.
 *
 *     static const struct sx_option options[] = {
 *         {"models", 0, "DIR", SX_OPT_LIST, &dirs, "a model repository; may be repeated"},
 *         {"json", 'j', NULL, SX_OPT_FLAG, &json, "print one JSON object"},
 *         {NULL},
 *     };
 */
#ifndef SX_CLI_OPTIONS_H
#define SX_CLI_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Exit codes of all subcommands. */
enum sx_exit {
    SX_EXIT_OK = 0,
    SX_EXIT_FAILED = 1,      /* it was tried, and did not work */
    SX_EXIT_USAGE = 2,       /* the command line is wrong */
    SX_EXIT_INPUT = 3,       /* a file, model or directory cannot be used */
    SX_EXIT_UNAVAILABLE = 4, /* something outside is in the way: a port, a library, a server */
};

enum sx_option_kind {
    SX_OPT_HEADING, /* a line of its own in the help; `help` is its text */
    SX_OPT_FLAG,    /* bool: set by the option's presence */
    SX_OPT_BOOL,    /* bool: true/false/1/0/yes/no/on/off; "true" when the value is left out */
    SX_OPT_TEXT,    /* const char *: the last one wins */
    SX_OPT_LIST,    /* struct sx_texts: all of them */
    SX_OPT_UINT,    /* uint64_t */
    SX_OPT_REAL,    /* double, >= 0 */
    SX_OPT_IGNORED, /* const char *: accepted, for the caller to mention */
};

struct sx_option {
    const char *name; /* long name without dashes; NULL ends the table (unless a heading) */
    char letter;      /* short name; 0: none */
    const char *arg;  /* what --help calls the value; NULL for flags */
    enum sx_option_kind kind;
    void *to;         /* stays as it is when the option is not given, so it holds the default */
    const char *help; /* NULL: not listed (an alias) */
};

struct sx_texts {
    const char **item; /* pointers into argv */
    size_t count;
};

struct sx_usage {
    const char *name;     /* "staronnx serve" */
    const char *operands; /* "[FILE.onnx ...]"; "" when there are none */
    const char *summary;  /* a paragraph */
    const char *details;  /* below the options: examples, exit codes; NULL: only the exit codes */
    const struct sx_option *options;
    size_t min_operands, max_operands; /* SIZE_MAX: no limit */
};

/* Parse argv[1..].  Returns -1 to go on, with `operands` filled (free with sx_texts_free), or
 * the exit code: 0 after --help, 2 after a mistake.  -h and --help need no table entry. */
int sx_options_parse(const struct sx_usage *usage, int argc, char **argv,
                     struct sx_texts *operands);
void sx_texts_free(struct sx_texts *texts);

/* One line "staronnx serve: ..." and a pointer to --help on stderr; returns SX_EXIT_USAGE. */
int sx_usage_error(const struct sx_usage *usage, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* The word of `words` (NULL-terminated) that was probably meant by `typed`, or NULL. */
const char *sx_suggest(const char *typed, const char *const *words);

#endif
