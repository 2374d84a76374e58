/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * trace.c - Azure Functions traces, read in one pass.
 *
 * Lines and columns of messages count from 1; a column is a byte of its line.
 */
#include "sim/trace.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/file.h"

#define MAX_BYTES   ((size_t)1 << 30)
#define MAX_MINUTES 100000
#define MAX_COUNT   1e9
#define MAX_CALLS   ((size_t)200000000)
#define MINUTE_S    60.0

struct reader {
    const char *name, *line, *p; /* start of the present line; what comes next */
    unsigned number;             /* of the line */
    struct sx_err *err;
    const struct sx_trace_options *options;
    double scale, cv;
    unsigned n_models;
    struct sx_rng rng;
};

/* --- fields ----------------------------------------------------------------------------------- */

static enum sx_rc wrong(const struct reader *r, const char *at, const char *expected)
{
    int len = (int)strcspn(at, ",\r\n");
    return sx_fail(r->err, SX_INVALID, "%s: line %u, column %zu: '%.*s', expected %s", r->name,
                   r->number, (size_t)(at - r->line) + 1, len < 40 ? len : 40, at, expected);
}

static bool at_end(const struct reader *r)
{
    return *r->p == '\0' || *r->p == '\n' || *r->p == '\r';
}

/* Go behind the comma that must follow a field. */
static enum sx_rc next_field(struct reader *r, const char *expected)
{
    if (*r->p != ',')
        return wrong(r, r->p, expected);
    r->p++;
    return SX_OK;
}

static enum sx_rc skip_text(struct reader *r, const char **ret_at, size_t *ret_len)
{
    *ret_at = r->p;
    *ret_len = strcspn(r->p, ",\r\n");
    r->p += *ret_len;
    return *ret_len ? SX_OK : wrong(r, *ret_at, "a name");
}

static enum sx_rc read_number(struct reader *r, const char *expected, double most, double *ret)
{
    char *end;
    if (strspn(r->p, "0123456789.+-eE") == 0) /* strtod would skip blanks and take "inf" */
        return wrong(r, r->p, expected);
    *ret = strtod(r->p, &end);
    if (end == r->p || (*end && !strchr(",\r\n", *end)) || !(*ret >= 0 && *ret <= most))
        return wrong(r, r->p, expected);
    r->p = end;
    return SX_OK;
}

/* To the next line; false at the end of the text. */
static bool next_line(struct reader *r)
{
    r->p += strcspn(r->p, "\n");
    if (*r->p)
        r->p++;
    r->line = r->p;
    r->number++;
    return *r->p != '\0';
}

static enum sx_rc expect_end(const struct reader *r)
{
    const char *p = r->p + (*r->p == '\r');
    return *p == '\0' || *p == '\n' ? SX_OK : wrong(r, r->p, "the end of the line");
}

/* How many requests n calls become. */
static double scaled(struct reader *r, double n)
{
    double x = n * r->scale, whole = floor(x);
    return whole + (sx_rng_double(&r->rng) < x - whole);
}

/* --- 2019: counts by minute ------------------------------------------------------------------- */

static const char *const names_2019[] = {"HashOwner", "HashApp", "HashFunction", "Trigger"};

static enum sx_rc head_2019(struct reader *r, size_t *ret_minutes)
{
    char want[64];
    for (size_t i = 0; i < 4; i++) {
        const char *at;
        size_t len;
        enum sx_rc rc = i ? next_field(r, names_2019[i]) : SX_OK;
        if (!rc)
            rc = skip_text(r, &at, &len);
        if (rc)
            return rc;
        if (len != strlen(names_2019[i]) || strncmp(at, names_2019[i], len) != 0)
            return wrong(r, at, names_2019[i]);
    }
    size_t minutes = 0;
    while (!at_end(r)) {
        double number;
        snprintf(want, sizeof want, "the number of minute %zu", minutes + 1);
        enum sx_rc rc = next_field(r, want);
        const char *at = r->p;
        if (!rc)
            rc = read_number(r, want, MAX_MINUTES, &number);
        if (!rc && number != (double)(minutes + 1))
            rc = wrong(r, at, want);
        if (rc)
            return rc;
        minutes++;
    }
    if (!minutes)
        return wrong(r, r->p, "a column for each minute");
    *ret_minutes = minutes;
    return SX_OK;
}

/* Add the calls of a function to those of its model. */
static enum sx_rc row_2019(struct reader *r, size_t minutes, size_t first, size_t n, double *sums)
{
    char want[64];
    const char *at;
    size_t len;
    enum sx_rc rc = SX_OK;
    for (size_t i = 0; i < 4 && !rc; i++) {
        if (i)
            rc = next_field(r, names_2019[i]);
        if (!rc)
            rc = skip_text(r, &at, &len);
    }
    for (size_t i = 0; i < minutes && !rc; i++) {
        double count = 0;
        snprintf(want, sizeof want, "the whole number of calls in minute %zu", i + 1);
        rc = next_field(r, want);
        at = r->p;
        if (!rc)
            rc = read_number(r, want, MAX_COUNT, &count);
        if (!rc && count != floor(count))
            rc = wrong(r, at, want);
        if (!rc && i >= first && i < first + n)
            sums[i - first] += count;
    }
    return rc ? rc : expect_end(r);
}

static enum sx_rc make_2019(struct reader *r, const double *sums, size_t n, struct sx_arrival *ret)
{
    uint32_t *counts = calloc(n + 1, sizeof *counts);
    if (!counts)
        return sx_fail(r->err, SX_NO_MEMORY, "no memory for a trace");
    for (size_t i = 0; i < n; i++) {
        double calls = scaled(r, sums[i]);
        counts[i] = calls < UINT32_MAX ? (uint32_t)calls : UINT32_MAX;
    }
    sx_arrival_counts(ret, counts, n, (uint64_t)(MINUTE_S * 1e9), 1 / (r->cv * r->cv),
                      sx_rng_u64(&r->rng));
    return SX_OK;
}

static enum sx_rc read_2019(struct reader *r, struct sx_arrival *ret_loads)
{
    size_t minutes = 0, functions = 0;
    enum sx_rc rc = head_2019(r, &minutes);
    if (!rc)
        rc = expect_end(r);
    if (rc)
        return rc;
    size_t first = (size_t)(r->options->begin / MINUTE_S), n = minutes;
    if (first >= minutes)
        return sx_fail(r->err, SX_INVALID, "%s: it ends after %zu minutes, before the part wanted",
                       r->name, minutes);
    if (r->options->seconds > 0)
        n = (size_t)ceil(r->options->seconds / MINUTE_S);
    n = n < minutes - first ? n : minutes - first;
    double *sums = calloc(n * r->n_models, sizeof *sums);
    if (!sums)
        return sx_fail(r->err, SX_NO_MEMORY, "no memory for a trace");
    while (!rc && next_line(r))
        if (!at_end(r)) /* a blank line */
            rc = row_2019(r, minutes, first, n, sums + n * (functions++ % r->n_models));
    if (!rc && !functions)
        rc = sx_fail(r->err, SX_INVALID, "%s: no function in it", r->name);
    for (unsigned i = 0; i < r->n_models && !rc; i++)
        rc = make_2019(r, sums + n * i, n, &ret_loads[i]);
    free(sums);
    return rc;
}

/* --- 2021: one row for each call -------------------------------------------------------------- */

struct call {
    double at; /* s */
    uint32_t model;
};

struct calls {
    struct call *item;
    size_t n, cap;
    /* Functions so far, by hash of app and func, open addressing; 0: free. */
    uint64_t *key;
    uint32_t *model;
    size_t n_functions, cap_functions;
};

static bool grow_functions(struct calls *c)
{
    size_t cap = c->cap_functions ? 2 * c->cap_functions : 256;
    uint64_t *key = calloc(cap, sizeof *key);
    uint32_t *model = calloc(cap, sizeof *model);
    if (!key || !model) {
        free(key);
        free(model);
        return false;
    }
    for (size_t i = 0; i < c->cap_functions; i++) {
        if (!c->key[i])
            continue;
        size_t at = c->key[i] & (cap - 1);
        while (key[at])
            at = (at + 1) & (cap - 1);
        key[at] = c->key[i];
        model[at] = c->model[i];
    }
    free(c->key);
    free(c->model);
    c->key = key;
    c->model = model;
    c->cap_functions = cap;
    return true;
}

/* The model of a function: in turn, when it is new. */
static bool model_of(struct calls *c, uint64_t hash, unsigned n_models, uint32_t *ret)
{
    if (2 * c->n_functions >= c->cap_functions && !grow_functions(c))
        return false;
    hash = hash ? hash : 1;
    size_t at = hash & (c->cap_functions - 1);
    while (c->key[at] && c->key[at] != hash)
        at = (at + 1) & (c->cap_functions - 1);
    if (!c->key[at]) {
        c->key[at] = hash;
        c->model[at] = (uint32_t)(c->n_functions++ % n_models);
    }
    *ret = c->model[at];
    return true;
}

static uint64_t hash_text(uint64_t hash, const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++) /* FNV-1a */
        hash = (hash ^ (unsigned char)text[i]) * UINT64_C(0x100000001b3);
    return (hash ^ 0xff) * UINT64_C(0x100000001b3);
}

static enum sx_rc add_call(struct reader *r, struct calls *c, double at, uint32_t model)
{
    const struct sx_trace_options *o = r->options;
    double n = scaled(r, 1);
    for (double i = 0; i < n; i++) {
        double when = i > 0 ? at + sx_rng_double(&r->rng) : at;
        if (when < o->begin || (o->seconds > 0 && when >= o->begin + o->seconds))
            continue;
        if (c->n == MAX_CALLS)
            return sx_fail(r->err, SX_TOO_LARGE, "%s: more than %zu calls", r->name, MAX_CALLS);
        if (c->n == c->cap) {
            size_t cap = c->cap ? 2 * c->cap : 1024;
            struct call *grown = realloc(c->item, cap * sizeof *grown);
            if (!grown)
                return sx_fail(r->err, SX_NO_MEMORY, "no memory for a trace");
            c->item = grown;
            c->cap = cap;
        }
        c->item[c->n++] = (struct call){when, model};
    }
    return SX_OK;
}

static enum sx_rc row_2021(struct reader *r, struct calls *c)
{
    const char *app, *func;
    size_t app_len, func_len;
    double end, duration;
    uint32_t model;
    enum sx_rc rc = skip_text(r, &app, &app_len);
    if (!rc)
        rc = next_field(r, "four fields: app,func,end_timestamp,duration");
    if (!rc)
        rc = skip_text(r, &func, &func_len);
    if (!rc)
        rc = next_field(r, "four fields: app,func,end_timestamp,duration");
    if (!rc)
        rc = read_number(r, "the time of the end in seconds", 1e10, &end);
    if (!rc)
        rc = next_field(r, "four fields: app,func,end_timestamp,duration");
    if (!rc)
        rc = read_number(r, "the duration in seconds", 1e7, &duration);
    if (!rc)
        rc = expect_end(r);
    if (rc)
        return rc;
    uint64_t hash = hash_text(UINT64_C(0xcbf29ce484222325), app, app_len);
    if (!model_of(c, hash_text(hash, func, func_len), r->n_models, &model))
        return sx_fail(r->err, SX_NO_MEMORY, "no memory for a trace");
    return add_call(r, c, end > duration ? end - duration : 0, model);
}

static int by_time(const void *x, const void *y)
{
    const struct call *a = x, *b = y;
    return a->at != b->at ? (a->at < b->at ? -1 : 1)
                          : (a->model > b->model) - (a->model < b->model);
}

static enum sx_rc make_2021(struct reader *r, const struct calls *c, struct sx_arrival *ret_loads)
{
    double span = r->options->seconds > 0 ? r->options->seconds : c->item[c->n - 1].at;
    for (unsigned m = 0; m < r->n_models; m++) {
        size_t n = 0;
        for (size_t i = 0; i < c->n; i++)
            n += c->item[i].model == m;
        struct sx_arrival a = {.kind = SX_ARRIVAL_TIMES};
        a.times = malloc((n + 1) * sizeof *a.times);
        if (!a.times)
            return sx_fail(r->err, SX_NO_MEMORY, "no memory for a trace");
        for (size_t i = 0; i < c->n; i++)
            if (c->item[i].model == m)
                a.times[a.n_times++] = (uint64_t)((c->item[i].at - r->options->begin) * 1e9);
        if (!n) /* one that never comes: a process of times has at least one */
            a.times[a.n_times++] = SX_NEVER;
        a.rate = span > 0 ? (double)n / span : (double)n;
        ret_loads[m] = a;
    }
    return SX_OK;
}

static enum sx_rc read_2021(struct reader *r, struct sx_arrival *ret_loads)
{
    static const char *const names[] = {"app", "func", "end_timestamp", "duration"};
    struct calls c = {0};
    enum sx_rc rc = SX_OK;
    for (size_t i = 0; i < 4 && !rc; i++) {
        const char *at = r->p;
        size_t len = 0;
        if (i)
            rc = next_field(r, names[i]);
        if (!rc)
            rc = skip_text(r, &at, &len);
        if (!rc && (len != strlen(names[i]) || strncmp(at, names[i], len) != 0))
            rc = wrong(r, at, names[i]);
    }
    if (!rc)
        rc = expect_end(r);
    while (!rc && next_line(r))
        if (!at_end(r))
            rc = row_2021(r, &c);
    if (!rc && !c.n)
        rc = sx_fail(r->err, SX_INVALID, "%s: no call in it, or none in the part wanted", r->name);
    if (!rc) {
        qsort(c.item, c.n, sizeof *c.item, by_time); /* rows are in the order of their ends */
        rc = make_2021(r, &c, ret_loads);
    }
    free(c.item);
    free(c.key);
    free(c.model);
    return rc;
}

/* --- both ------------------------------------------------------------------------------------- */

enum sx_rc sx_trace_parse(const char *name, const char *text, const struct sx_trace_options *o,
                          unsigned n_models, struct sx_arrival *ret_loads, struct sx_err *err)
{
    struct reader r = {.name = name,
                       .line = text,
                       .p = text,
                       .number = 1,
                       .err = err,
                       .options = o,
                       .scale = o->scale > 0 ? o->scale : 1,
                       .cv = o->cv > 0 ? o->cv : 1,
                       .n_models = n_models};
    enum sx_rc rc;
    memset(ret_loads, 0, n_models * sizeof *ret_loads);
    sx_rng_init(&r.rng, o->seed);
    if (strncmp(text, "HashOwner", 9) == 0)
        rc = read_2019(&r, ret_loads);
    else if (strncmp(text, "app,", 4) == 0)
        rc = read_2021(&r, ret_loads);
    else
        rc = wrong(&r, text,
                   "the head of an Azure Functions trace: HashOwner,HashApp,HashFunction,Trigger,"
                   "1,2,... or app,func,end_timestamp,duration");
    for (unsigned i = 0; rc && i < n_models; i++)
        sx_arrival_fini(&ret_loads[i]);
    return rc;
}

enum sx_rc sx_trace_load(const char *path, const struct sx_trace_options *options,
                         unsigned n_models, struct sx_arrival *ret_loads, struct sx_err *err)
{
    char *text;
    size_t size;
    enum sx_rc rc = sx_file_read(path, MAX_BYTES, &text, &size, err);
    if (rc)
        return rc;
    rc = sx_trace_parse(path, text, options, n_models, ret_loads, err);
    free(text);
    return rc;
}
