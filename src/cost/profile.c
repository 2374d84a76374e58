/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * profile.c - measured times as data: kept sorted, always scaled, interpolated.
 *
 * Always true: tables are sorted by (kind, units, batch) without doubles, every number is finite
 * and not negative, arrays have key.n_nodes elements.
 */
#include "cost/profile.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/sbuf.h"
#include "cost/fields.h"

#define DEFAULT_FIXED_NS 1e3
#define DEFAULT_BYTE_NS  0.1 /* 10 GB/s */
#define MAX_COUNT        (1u << 20)
#define MAX_TABLES       4096
#define MAX_LINKS        1024

static const char again[] = "run `staronnx profile` again";

/* --- keys ------------------------------------------------------------------------------------- */

struct hash {
    uint64_t a, b;
};

static void hash_bytes(struct hash *h, const void *data, size_t n)
{
    const unsigned char *p = data;

    for (size_t i = 0; i < n; i++) { /* FNV-1a, twice from different beginnings */
        h->a = (h->a ^ p[i]) * UINT64_C(0x100000001b3);
        h->b = (h->b ^ p[i]) * UINT64_C(0x100000001b3);
    }
}

static void hash_text(struct hash *h, const char *text)
{
    hash_bytes(h, text, strlen(text) + 1);
}

static void hash_int(struct hash *h, int64_t value)
{
    hash_bytes(h, &value, sizeof value);
}

static struct hash hash_begin(void)
{
    return (struct hash){UINT64_C(0xcbf29ce484222325), UINT64_C(0x9e3779b97f4a7c15)};
}

enum sx_rc sx_profile_cache_path(const char *cache_dir, const struct sx_profile_key *key, char *buf,
                                 size_t size, struct sx_err *err)
{
    struct hash h = hash_begin();

    hash_text(&h, key->model);
    hash_text(&h, key->machine);
    hash_text(&h, key->engine);
    hash_int(&h, key->n_nodes);
    int len =
        snprintf(buf, size, "%s/profiles/%016" PRIx64 "%016" PRIx64 ".json", cache_dir, h.a, h.b);
    if (len < 0 || (size_t)len >= size)
        return sx_fail(err, SX_INVALID, "the cache directory's path is too long");
    return SX_OK;
}

/* --- tables ----------------------------------------------------------------------------------- */

static void table_fini(struct sx_profile_table *t)
{
    free(t->node_ns);
    free(t->node_spread_ns);
}

void sx_profile_fini(struct sx_profile *profile)
{
    for (size_t i = 0; i < profile->n_tables; i++)
        table_fini(&profile->tables[i]);
    free(profile->tables);
    free(profile->links);
    memset(profile, 0, sizeof *profile);
}

static int compare(const struct sx_profile_table *t, const char *kind, unsigned units,
                   unsigned batch)
{
    int order = strcmp(t->kind, kind);

    if (order)
        return order;
    if (t->units != units)
        return t->units < units ? -1 : 1;
    return t->batch == batch ? 0 : t->batch < batch ? -1 : 1;
}

/* The first table that is not before (kind, units, batch). */
static size_t lower_bound(const struct sx_profile *p, const char *kind, unsigned units,
                          unsigned batch)
{
    size_t lo = 0, hi = p->n_tables;

    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (compare(&p->tables[mid], kind, units, batch) < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

static bool good_ns(double ns)
{
    return ns >= 0 && ns <= SX_FIELDS_MAX_NS; /* false for NaN */
}

static bool good_text(const char *text, size_t size)
{
    size_t len = strnlen(text, size);

    return len > 0 && len < size;
}

static bool good_table(const struct sx_profile_table *t, uint32_t n)
{
    if (!good_text(t->kind, sizeof t->kind) || t->units == 0 || t->units > MAX_COUNT ||
        t->batch == 0 || t->batch > MAX_COUNT || !good_ns(t->whole_ns) ||
        !good_ns(t->whole_spread_ns))
        return false;
    for (uint32_t i = 0; i < n; i++)
        if (!good_ns(t->node_ns[i]) || !good_ns(t->node_spread_ns[i]))
            return false;
    return true;
}

static double sum(const double *ns, uint32_t n)
{
    double total = 0;

    for (uint32_t i = 0; i < n; i++)
        total += ns[i];
    return total;
}

/* A profiled run is slower than a plain one; what counts is the plain one. */
static void scale(struct sx_profile_table *t, uint32_t n)
{
    double total = sum(t->node_ns, n), by = t->whole_ns / total;

    if (!(total > 0) || !(t->whole_ns > 0) || !(by < 1e9) || fabs(by - 1) < 1e-9)
        return; /* nothing to go by; or from a file, where nothing may change */
    for (uint32_t i = 0; i < n; i++) {
        t->node_ns[i] *= by;
        t->node_spread_ns[i] = fmin(t->node_spread_ns[i] * by, SX_FIELDS_MAX_NS);
    }
}

enum sx_rc sx_profile_put(struct sx_profile *profile, const struct sx_profile_table *table,
                          struct sx_err *err)
{
    uint32_t n = profile->key.n_nodes;
    struct sx_profile_table copy = *table;

    if (!good_table(table, n))
        return sx_fail(err, SX_INVALID, "measured times of '%.15s' are not times", table->kind);
    size_t at = lower_bound(profile, table->kind, table->units, table->batch);
    bool there = at < profile->n_tables &&
                 !compare(&profile->tables[at], table->kind, table->units, table->batch);

    copy.node_ns = calloc(n + 1, sizeof *copy.node_ns);
    copy.node_spread_ns = calloc(n + 1, sizeof *copy.node_spread_ns);
    struct sx_profile_table *grown =
        there ? profile->tables : realloc(profile->tables, (profile->n_tables + 1) * sizeof *grown);
    if (grown)
        profile->tables = grown;
    if (!copy.node_ns || !copy.node_spread_ns || !grown) {
        table_fini(&copy);
        return sx_fail(err, SX_NO_MEMORY, "no memory for a profile");
    }
    if (n) {
        memcpy(copy.node_ns, table->node_ns, n * sizeof *copy.node_ns);
        memcpy(copy.node_spread_ns, table->node_spread_ns, n * sizeof *copy.node_spread_ns);
    }
    scale(&copy, n);
    if (there) {
        table_fini(&grown[at]);
    } else {
        memmove(grown + at + 1, grown + at, (profile->n_tables - at) * sizeof *grown);
        profile->n_tables++;
    }
    grown[at] = copy;
    return SX_OK;
}

const struct sx_profile_table *sx_profile_get(const struct sx_profile *profile, const char *kind,
                                              unsigned units, unsigned batch)
{
    size_t at = lower_bound(profile, kind, units, batch);

    if (at < profile->n_tables && !compare(&profile->tables[at], kind, units, batch))
        return &profile->tables[at];
    return NULL;
}

/* --- prediction ------------------------------------------------------------------------------- */

/* Time at `batch` on the line through (b1, t1) and (b2, t2), b1 < b2.  Outside, noise may not make
 * it absurd: above never less than t2; below between proportional to t1 and t1 itself. */
static double on_line(double b1, double t1, double b2, double t2, double batch)
{
    double t = t1 + (t2 - t1) * (batch - b1) / (b2 - b1);

    if (batch > b2)
        return fmax(t, t2);
    if (batch < b1)
        return fmin(fmax(t, t1 * batch / b1), t1);
    return t;
}

/* From one measured batch alone: b1 == b2. */
static double at_batch(double b1, double t1, double b2, double t2, double batch)
{
    return b1 < b2 ? on_line(b1, t1, b2, t2, batch) : t1 * (batch / b1);
}

enum sx_rc sx_profile_node_ns(const struct sx_profile *profile, const char *kind, unsigned units,
                              unsigned batch, double *ret_ns, double *ret_whole_ns)
{
    size_t begin = lower_bound(profile, kind, units, 0), end = begin;

    while (end < profile->n_tables && profile->tables[end].units == units &&
           !strcmp(profile->tables[end].kind, kind))
        end++;
    if (begin == end)
        return SX_NOT_FOUND;

    /* the nearest two, or one twice */
    size_t hi = lower_bound(profile, kind, units, batch), lo;
    if (hi < end && profile->tables[hi].batch == batch)
        lo = hi;
    else if (end - begin == 1)
        lo = hi = begin;
    else if (hi == begin)
        lo = hi++;
    else if (hi == end)
        lo = (hi = end - 1) - 1;
    else
        lo = hi - 1;

    const struct sx_profile_table *a = &profile->tables[lo], *b = &profile->tables[hi];
    uint32_t n = profile->key.n_nodes;
    for (uint32_t i = 0; ret_ns && i < n; i++)
        ret_ns[i] = at_batch(a->batch, a->node_ns[i], b->batch, b->node_ns[i], batch);
    if (ret_whole_ns)
        *ret_whole_ns = at_batch(a->batch, a->whole_ns, b->batch, b->whole_ns, batch);
    return SX_OK;
}

/* --- links ------------------------------------------------------------------------------------ */

static struct sx_profile_link *find_link(const struct sx_profile *p, const char *from,
                                         const char *to)
{
    for (size_t i = 0; i < p->n_links; i++)
        if (!strcmp(p->links[i].from, from) && !strcmp(p->links[i].to, to))
            return &p->links[i];
    return NULL;
}

enum sx_rc sx_profile_put_link(struct sx_profile *profile, const struct sx_profile_link *link,
                               struct sx_err *err)
{
    if (!good_text(link->from, sizeof link->from) || !good_text(link->to, sizeof link->to) ||
        !good_ns(link->fixed_ns) || !good_ns(link->byte_ns))
        return sx_fail(err, SX_INVALID, "measured times of copies are not times");
    struct sx_profile_link *there = find_link(profile, link->from, link->to);
    if (!there) {
        struct sx_profile_link *grown =
            realloc(profile->links, (profile->n_links + 1) * sizeof *grown);
        if (!grown)
            return sx_fail(err, SX_NO_MEMORY, "no memory for a profile");
        profile->links = grown;
        there = &grown[profile->n_links++];
    }
    *there = *link;
    return SX_OK;
}

struct sx_profile_link sx_profile_link(const struct sx_profile *profile, const char *from,
                                       const char *to)
{
    const struct sx_profile_link *link = find_link(profile, from, to);
    struct sx_profile_link guess = {.fixed_ns = DEFAULT_FIXED_NS, .byte_ns = DEFAULT_BYTE_NS};

    if (link)
        return *link;
    snprintf(guess.from, sizeof guess.from, "%s", from);
    snprintf(guess.to, sizeof guess.to, "%s", to);
    return guess;
}

/* --- file ------------------------------------------------------------------------------------- */

enum sx_rc sx_profile_save(const struct sx_profile *profile, const char *path, struct sx_err *err)
{
    struct sx_sbuf s = {0};
    uint32_t n = profile->key.n_nodes;

    sx_sbuf_printf(&s, "{\"format\":%d,", SX_PROFILE_FORMAT);
    sx_fields_put_key(&s, &profile->key);
    sx_sbuf_puts(&s, ",\n\"links\":[");
    for (size_t i = 0; i < profile->n_links; i++) {
        const struct sx_profile_link *l = &profile->links[i];
        sx_sbuf_puts(&s, i ? ",\n{\"from\":" : "\n{\"from\":");
        sx_sbuf_json(&s, l->from);
        sx_sbuf_puts(&s, ",\"to\":");
        sx_sbuf_json(&s, l->to);
        sx_sbuf_puts(&s, ",\"fixed_ns\":");
        sx_fields_put_number(&s, l->fixed_ns);
        sx_sbuf_puts(&s, ",\"byte_ns\":");
        sx_fields_put_number(&s, l->byte_ns);
        sx_sbuf_putc(&s, '}');
    }
    sx_sbuf_puts(&s, "],\n\"tables\":[");
    for (size_t i = 0; i < profile->n_tables; i++) {
        const struct sx_profile_table *t = &profile->tables[i];
        sx_sbuf_puts(&s, i ? ",\n{\"kind\":" : "\n{\"kind\":");
        sx_sbuf_json(&s, t->kind);
        sx_sbuf_printf(&s, ",\"units\":%u,\"batch\":%u,\"runs\":%u,\"whole_ns\":", t->units,
                       t->batch, t->runs);
        sx_fields_put_numbers(&s, (double[]){t->whole_ns, t->whole_spread_ns}, 2);
        sx_sbuf_puts(&s, ",\n \"node_ns\":");
        sx_fields_put_numbers(&s, t->node_ns, n);
        sx_sbuf_puts(&s, ",\n \"node_spread_ns\":");
        sx_fields_put_numbers(&s, t->node_spread_ns, n);
        sx_sbuf_putc(&s, '}');
    }
    sx_sbuf_puts(&s, "]}\n");
    return sx_fields_save(&s, path, err);
}

static void read_link(struct sx_fields *f, yyjson_val *v, struct sx_profile *profile)
{
    struct sx_profile_link link = {0};

    sx_fields_text(f, v, "from", false, link.from, sizeof link.from);
    sx_fields_text(f, v, "to", false, link.to, sizeof link.to);
    link.fixed_ns = sx_fields_number(f, v, "fixed_ns", 0, SX_FIELDS_MAX_NS);
    link.byte_ns = sx_fields_number(f, v, "byte_ns", 0, SX_FIELDS_MAX_NS);
    if (!f->rc && find_link(profile, link.from, link.to))
        sx_fields_damaged(f, "the link from %s to %s is there twice", link.from, link.to);
    if (!f->rc)
        f->rc = sx_profile_put_link(profile, &link, f->err);
}

static void read_table(struct sx_fields *f, yyjson_val *v, struct sx_profile *profile,
                       double *scratch)
{
    uint32_t n = profile->key.n_nodes;
    struct sx_profile_table t = {.node_ns = scratch, .node_spread_ns = scratch + n};
    double whole[2] = {0};

    sx_fields_text(f, v, "kind", false, t.kind, sizeof t.kind);
    t.units = (unsigned)sx_fields_uint(f, v, "units", 1, MAX_COUNT);
    t.batch = (unsigned)sx_fields_uint(f, v, "batch", 1, MAX_COUNT);
    t.runs = (unsigned)sx_fields_uint(f, v, "runs", 0, UINT32_MAX);
    sx_fields_numbers(f, v, "whole_ns", 0, SX_FIELDS_MAX_NS, whole, 2);
    sx_fields_numbers(f, v, "node_ns", 0, SX_FIELDS_MAX_NS, t.node_ns, n);
    sx_fields_numbers(f, v, "node_spread_ns", 0, SX_FIELDS_MAX_NS, t.node_spread_ns, n);
    t.whole_ns = whole[0];
    t.whole_spread_ns = whole[1];
    if (!f->rc && sx_profile_get(profile, t.kind, t.units, t.batch))
        sx_fields_damaged(f, "the table of %s, units %u, batch %u is there twice", t.kind, t.units,
                          t.batch);
    if (!f->rc)
        f->rc = sx_profile_put(profile, &t, f->err);
}

enum sx_rc sx_profile_load(const char *path, const struct sx_profile_key *key,
                           struct sx_profile *ret_profile, struct sx_err *err)
{
    struct sx_fields f = {.what = "profile", .path = path, .hint = again, .err = err};
    struct sx_profile profile = {0};
    double *scratch = NULL;
    size_t i, n;
    yyjson_val *root = sx_fields_open(&f, SX_PROFILE_FORMAT), *v, *links, *tables;

    sx_fields_key(&f, root, &profile.key);
    sx_fields_compare(&f, &profile.key, key);
    links = sx_fields_array(&f, root, "links", MAX_LINKS);
    tables = sx_fields_array(&f, root, "tables", MAX_TABLES);
    if (!f.rc) {
        /* what the file says of its length is believed only as far as its arrays go */
        size_t most = yyjson_arr_size(yyjson_obj_get(yyjson_arr_get_first(tables), "node_ns"));
        if (tables && yyjson_arr_size(tables) && most != profile.key.n_nodes)
            sx_fields_damaged(&f, "times of %zu operators, not of %u", most, profile.key.n_nodes);
        else
            scratch = calloc(2 * most + 1, sizeof *scratch);
        if (!f.rc && !scratch)
            f.rc = sx_fail(err, SX_NO_MEMORY, "no memory for a profile");
    }
    if (f.rc)
        goto out;
    yyjson_arr_foreach(links, i, n, v)
    {
        read_link(&f, v, &profile);
    }
    yyjson_arr_foreach(tables, i, n, v)
    {
        read_table(&f, v, &profile, scratch);
    }
out:
    free(scratch);
    sx_fields_close(&f);
    if (f.rc)
        sx_profile_fini(&profile);
    else
        *ret_profile = profile;
    return f.rc;
}
