/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
#include "cli/options.h"

#include <assert.h>
#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define MAX_OPTIONS 64
#define FIRST_LONG  256 /* getopt's value of the table's first entry; letters lie below */
#define HELP_VALUE  (FIRST_LONG + MAX_OPTIONS)

static const char exit_codes[] = "Exit status: 0 done, 1 failed, 2 wrong command line, 3 a file, "
                                 "model or directory cannot be\n"
                                 "used, 4 a port, library or server is not available.\n";

static bool is_end(const struct sx_option *o)
{
    return !o->name && o->kind != SX_OPT_HEADING;
}

/* --- help ------------------------------------------------------------------------------------- */

static int screen_width(void)
{
    struct winsize size;

    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col >= 40)
        return size.ws_col < 110 ? size.ws_col : 110;
    return 90;
}

/* Print `text` from column `at` on, broken between words, further lines indented by `indent`. */
static void print_wrapped(const char *text, int at, int indent, int width)
{
    while (*text) {
        int len = (int)strcspn(text, " ");

        if (at > indent && at + 1 + len > width) {
            printf("\n%*s", indent, "");
            at = indent;
        } else if (at > indent) {
            putchar(' ');
            at++;
        }
        printf("%.*s", len, text);
        at += len;
        text += len + strspn(text + len, " ");
    }
    putchar('\n');
}

static int option_text(const struct sx_option *o, char *buf, size_t size)
{
    char letter[8] = "    ";

    if (o->letter)
        snprintf(letter, sizeof letter, "-%c, ", o->letter);
    return snprintf(buf, size, "  %s--%s%s%s", letter, o->name, o->arg ? " " : "",
                    o->arg ? o->arg : "");
}

static void print_help(const struct sx_usage *u)
{
    static const struct sx_option help = {"help", 'h', NULL, SX_OPT_FLAG, NULL, "this page"};
    char text[128];
    int width = screen_width(), column = 0;

    for (const struct sx_option *o = u->options; !is_end(o); o++) {
        if (o->kind == SX_OPT_HEADING || !o->help)
            continue;
        int len = option_text(o, text, sizeof text);
        if (len > column && len <= 34)
            column = len;
    }
    column += 2;

    printf("usage: %s [OPTIONS]%s%s\n\n", u->name, *u->operands ? " " : "", u->operands);
    print_wrapped(u->summary, 0, 0, width);
    if (u->options[0].kind != SX_OPT_HEADING)
        putchar('\n');
    for (const struct sx_option *o = u->options;; o++) {
        if (is_end(o))
            o = &help;
        if (o->kind == SX_OPT_HEADING) {
            printf("\n%s:\n", o->help);
            continue;
        }
        if (o->help) {
            int len = option_text(o, text, sizeof text);
            printf("%s", text);
            if (len + 2 > column)
                printf("\n%*s", column, "");
            else
                printf("%*s", column - len, "");
            print_wrapped(o->help, column, column, width);
        }
        if (o == &help)
            break;
    }
    if (u->details)
        printf("\n%s", u->details);
    printf("\n%s", exit_codes);
}

/* --- mistakes --------------------------------------------------------------------------------- */

int sx_usage_error(const struct sx_usage *usage, const char *format, ...)
{
    char text[512];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    fprintf(stderr, "%s: %s (see %s --help)\n", usage->name, text, usage->name);
    return SX_EXIT_USAGE;
}

/* Edits (insert, delete, replace) that turn a into b; words longer than 31 are far away. */
static unsigned edit_distance(const char *a, const char *b)
{
    unsigned row[32];
    size_t n = strlen(b);

    if (n >= 32 || strlen(a) >= 32)
        return 99;
    for (size_t j = 0; j <= n; j++)
        row[j] = (unsigned)j;
    for (size_t i = 1; *a; a++, i++) {
        unsigned diagonal = row[0];
        row[0] = (unsigned)i;
        for (size_t j = 1; j <= n; j++) {
            unsigned best = diagonal + (*a != b[j - 1]);
            diagonal = row[j];
            if (row[j] + 1 < best)
                best = row[j] + 1;
            if (row[j - 1] + 1 < best)
                best = row[j - 1] + 1;
            row[j] = best;
        }
    }
    return row[n];
}

const char *sx_suggest(const char *typed, const char *const *words)
{
    const char *best = NULL;
    unsigned least = 3; /* further away than two edits is a guess */

    for (; *words; words++) {
        size_t typed_len = strlen(typed);
        unsigned d = edit_distance(typed, *words);

        if (typed_len >= 2 && strncmp(typed, *words, typed_len) == 0)
            d = 0; /* an abbreviation */
        if (d < least && d < strlen(*words)) {
            least = d;
            best = *words;
        }
    }
    return best;
}

static int unknown_option(const struct sx_usage *u, const char *typed)
{
    const char *words[MAX_OPTIONS + 1], *meant;
    char name[64];
    size_t n = 0;

    if (strncmp(typed, "--", 2) != 0)
        return sx_usage_error(u, "no option '%s'", typed);
    snprintf(name, sizeof name, "%.*s", (int)strcspn(typed + 2, "="), typed + 2);
    for (const struct sx_option *o = u->options; !is_end(o); o++) {
        if (o->name && o->kind == SX_OPT_FLAG && strcmp(o->name, name) == 0)
            return sx_usage_error(u, "--%s takes no value", name);
        if (o->name && o->help)
            words[n++] = o->name;
    }
    words[n] = NULL;
    meant = sx_suggest(name, words);
    if (meant)
        return sx_usage_error(u, "no option '--%s'; did you mean '--%s'?", name, meant);
    return sx_usage_error(u, "no option '--%s'", name);
}

/* --- values ----------------------------------------------------------------------------------- */

static bool parse_bool(const char *text, bool *ret)
{
    static const char *const yes[] = {"true", "1", "yes", "on"}, *const no[] = {"false", "0", "no",
                                                                                "off"};

    for (size_t i = 0; i < 4; i++) {
        if (strcasecmp(text, yes[i]) == 0 || strcasecmp(text, no[i]) == 0) {
            *ret = strcasecmp(text, yes[i]) == 0;
            return true;
        }
    }
    return false;
}

static bool parse_uint(const char *text, uint64_t *ret)
{
    char *end;

    if (*text < '0' || *text > '9')
        return false;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    if (*end || errno)
        return false;
    *ret = value;
    return true;
}

static bool parse_real(const char *text, double *ret)
{
    char *end;
    double value = strtod(text, &end);

    if (end == text || *end || !isfinite(value) || value < 0)
        return false;
    *ret = value;
    return true;
}

static int list_add(struct sx_texts *texts, const char *text)
{
    const char **grown = realloc(texts->item, (texts->count + 1) * sizeof *grown);

    if (!grown) {
        fprintf(stderr, "staronnx: out of memory\n");
        return SX_EXIT_FAILED;
    }
    texts->item = grown;
    texts->item[texts->count++] = text;
    return -1;
}

static int take_value(const struct sx_usage *u, const struct sx_option *o, const char *value)
{
    switch (o->kind) {
    case SX_OPT_FLAG:
        *(bool *)o->to = true;
        return -1;
    case SX_OPT_BOOL:
        if (!value)
            *(bool *)o->to = true;
        else if (!parse_bool(value, o->to))
            return sx_usage_error(u, "--%s takes true or false, not '%s'", o->name, value);
        return -1;
    case SX_OPT_UINT:
        if (!parse_uint(value, o->to))
            return sx_usage_error(u, "--%s takes a whole number, not '%s'", o->name, value);
        return -1;
    case SX_OPT_REAL:
        if (!parse_real(value, o->to))
            return sx_usage_error(u, "--%s takes a number, not '%s'", o->name, value);
        return -1;
    case SX_OPT_LIST:
        return list_add(o->to, value);
    case SX_OPT_TEXT:
    case SX_OPT_IGNORED:
        *(const char **)o->to = value ? value : "";
        return -1;
    case SX_OPT_HEADING:
        break;
    }
    return -1;
}

/* --- parser ----------------------------------------------------------------------------------- */

/* `--flag value` for a bool option: getopt has no word for "optional, also after a space". */
static const char *optional_value(int argc, char **argv)
{
    bool unused;

    if (optarg)
        return optarg;
    if (optind < argc && parse_bool(argv[optind], &unused))
        return argv[optind++];
    return NULL;
}

int sx_options_parse(const struct sx_usage *u, int argc, char **argv, struct sx_texts *operands)
{
    struct option longs[MAX_OPTIONS + 2] = {0};
    char shorts[3 * MAX_OPTIONS + 4] = "-:h"; /* '-': operands in place; ':': quiet */
    size_t n = 0, s = strlen(shorts);
    int value, rc = -1;

    for (const struct sx_option *o = u->options; !is_end(o); o++, n++) {
        assert(n < MAX_OPTIONS);
        bool none = o->kind == SX_OPT_FLAG, optional = o->kind == SX_OPT_BOOL;
        longs[n].name = o->name ? o->name : ""; /* a heading keeps its place */
        longs[n].has_arg = none ? no_argument : optional ? optional_argument : required_argument;
        longs[n].val = FIRST_LONG + (int)n;
        if (o->letter) {
            shorts[s++] = o->letter;
            if (!none)
                shorts[s++] = ':';
        }
    }
    longs[n] = (struct option){"help", no_argument, NULL, HELP_VALUE};

    optind = 0; /* start anew: glibc also forgets what an earlier parse left */
    opterr = 0;
    while (rc < 0) {
        int before = optind ? optind : 1;

        value = getopt_long(argc, argv, shorts, longs, NULL);
        if (value == -1)
            break;
        if (value == 'h' || value == HELP_VALUE) {
            print_help(u);
            rc = SX_EXIT_OK;
        } else if (value == 1) {
            rc = list_add(operands, optarg);
        } else if (value == '?') {
            /* also an abbreviation of several options, or a value for a flag */
            rc = unknown_option(u, argv[before]);
        } else if (value == ':') {
            rc = sx_usage_error(u, "%s needs a value", argv[optind - 1]);
        } else {
            const struct sx_option *o = u->options;

            if (value >= FIRST_LONG)
                o += value - FIRST_LONG;
            else
                while (o->letter != (char)value)
                    o++;
            rc = take_value(u, o, o->kind == SX_OPT_BOOL ? optional_value(argc, argv) : optarg);
        }
    }
    while (rc < 0 && optind < argc)
        rc = list_add(operands, argv[optind++]);
    if (rc < 0 && operands->count < u->min_operands)
        rc = sx_usage_error(u, "needs %s", u->operands);
    if (rc < 0 && operands->count > u->max_operands)
        rc = sx_usage_error(u, "takes no '%s'", operands->item[u->max_operands]);
    if (rc >= 0)
        sx_texts_free(operands);
    return rc;
}

void sx_texts_free(struct sx_texts *texts)
{
    free(texts->item);
    *texts = (struct sx_texts){0};
}
