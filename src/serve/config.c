/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * config.c - read config.pbtxt.
 *
 * One table for each message says which fields there are and what reads them.  A field is
 *   read         it changes what we do;
 *   noted        it tunes another server and has no effect here: named in config->notes;
 *   unsupported  answers would differ from what the author expects, so the model is refused.
 * Anything else is a mistake in the file: refused with line and column.
 *
 * Not here: filling in from the model (config_complete.c).
 */
#include "serve/config.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "serve/pbtxt.h"

/* Of what is left over, a model may get a thousand times as much as an ordinary one, or as little.
 */
#define MIN_WEIGHT 0.001
#define MAX_WEIGHT 1000.0

struct reader {
    const struct sx_pbtxt *tree;
    struct sx_config *config;
    const char *where;
    struct sx_err *err;
};

typedef const struct sx_pbtxt_node node_t;

struct field {
    const char *name;
    enum sx_rc (*read)(struct reader *r, node_t *node, void *to);
};

#define FAIL_AT(r, rc, node, format, ...)                                                          \
    sx_fail((r)->err, rc, "%s:%u:%u: " format, (r)->where, (node)->line, (node)->col, __VA_ARGS__)

static const char *value_text(node_t *node)
{
    return node->kind == SX_PBTXT_MESSAGE ? "a message" : node->value;
}

static enum sx_rc read_fields(struct reader *r, node_t *message, const struct field *fields,
                              size_t n, void *to)
{
    if (message->kind != SX_PBTXT_MESSAGE)
        return FAIL_AT(r, SX_INVALID, message, "field '%s': expected a message in braces, got '%s'",
                       message->name, message->value);
    for (node_t *c = sx_pbtxt_first(r->tree, message); c; c = sx_pbtxt_next(r->tree, c)) {
        size_t i = 0;
        while (i < n && strcmp(fields[i].name, c->name) != 0)
            i++;
        if (i == n)
            return FAIL_AT(r, SX_INVALID, c, "unknown field '%.64s'%s%s", c->name,
                           *message->name ? " in " : "", message->name);
        enum sx_rc rc = fields[i].read(r, c, to);
        if (rc)
            return rc;
    }
    return SX_OK;
}

#define READ_FIELDS(r, message, fields, to)                                                        \
    read_fields(r, message, fields, sizeof(fields) / sizeof(*(fields)), to)

/* --- scalars ------------------------------------------------------------------------------------
 */

static enum sx_rc get_int(struct reader *r, node_t *node, int64_t min, int64_t max, int64_t *ret)
{
    int64_t v = 0;
    if (!sx_pbtxt_int(node, &v))
        return FAIL_AT(r, SX_INVALID, node, "field '%s': expected an integer, got '%.64s'",
                       node->name, value_text(node));
    if (v < min || v > max)
        return FAIL_AT(r, SX_INVALID, node, "field '%s': %lld is out of range", node->name,
                       (long long)v);
    *ret = v;
    return SX_OK;
}

static enum sx_rc get_bool(struct reader *r, node_t *node, bool *ret)
{
    if (sx_pbtxt_bool(node, ret))
        return SX_OK;
    return FAIL_AT(r, SX_INVALID, node, "field '%s': expected true or false, got '%.64s'",
                   node->name, value_text(node));
}

static enum sx_rc get_string(struct reader *r, node_t *node, char *to, size_t size)
{
    if (node->kind != SX_PBTXT_STRING)
        return FAIL_AT(r, SX_INVALID, node, "field '%s': expected a quoted string, got '%.64s'",
                       node->name, value_text(node));
    if (node->value_len >= size || strlen(node->value) != node->value_len)
        return FAIL_AT(r, SX_INVALID, node,
                       "field '%s': a string of less than %zu bytes without NUL is expected",
                       node->name, size);
    memcpy(to, node->value, node->value_len + 1);
    return SX_OK;
}

static void note(struct sx_config *c, const char *name)
{
    /* each name once, as a whole word of a comma-separated list */
    size_t len = strlen(name), have = strlen(c->notes);
    for (const char *p = c->notes; (p = strstr(p, name)); p += len)
        if ((p == c->notes || p[-1] == ' ') && (p[len] == ',' || p[len] == '\0'))
            return;
    if (have + len + 3 < sizeof(c->notes))
        snprintf(c->notes + have, sizeof(c->notes) - have, "%s%s", have ? ", " : "", name);
}

static enum sx_rc read_noted(struct reader *r, node_t *node, void *to)
{
    (void)to;
    note(r->config, node->name);
    return SX_OK;
}

static enum sx_rc read_unsupported(struct reader *r, node_t *node, void *to)
{
    (void)to;
    return FAIL_AT(r, SX_UNSUPPORTED, node, "'%s' is not supported by this server", node->name);
}

/* A flag that is fine as long as it is false. */
static enum sx_rc read_false(struct reader *r, node_t *node, void *to)
{
    bool v = false;
    enum sx_rc rc = get_bool(r, node, &v);
    return rc || !v ? rc : read_unsupported(r, node, to);
}

static enum sx_rc read_bool(struct reader *r, node_t *node, void *to)
{
    return get_bool(r, node, to);
}

/* --- inputs and outputs ----------------------------------------------------------------------- */

static enum sx_rc read_port_name(struct reader *r, node_t *node, void *to)
{
    struct sx_config_port *port = to;
    char name[SX_NAME_MAX];
    enum sx_rc rc = get_string(r, node, name, sizeof(name));
    if (rc)
        return rc;
    free(port->name);
    port->name = strdup(name);
    return port->name ? SX_OK : sx_fail(r->err, SX_NO_MEMORY, "%s: out of memory", r->where);
}

static enum sx_rc read_dtype(struct reader *r, node_t *node, void *to)
{
    struct sx_config_port *port = to;
    if (node->kind == SX_PBTXT_WORD)
        port->dtype = sx_dtype_from_config_name(node->value, node->value_len);
    if (port->dtype == SX_DTYPE_NONE)
        return FAIL_AT(r, SX_INVALID, node, "field 'data_type': '%.64s' is not a type like %s",
                       value_text(node), sx_dtype_config_name(SX_FP32));
    return SX_OK;
}

static enum sx_rc add_dim(struct reader *r, node_t *node, int64_t *dims, int *rank)
{
    int64_t v = 0;
    enum sx_rc rc = get_int(r, node, -1, INT64_MAX, &v);
    if (rc)
        return rc;
    if (*rank >= SX_MAX_RANK - 1) /* room for the batch dimension */
        return FAIL_AT(r, SX_UNSUPPORTED, node, "more than %d dimensions", SX_MAX_RANK - 1);
    dims[(*rank)++] = v;
    return SX_OK;
}

static enum sx_rc read_dims(struct reader *r, node_t *node, void *to)
{
    struct sx_config_port *port = to;
    return add_dim(r, node, port->dims, &port->rank);
}

static enum sx_rc read_reshape_dim(struct reader *r, node_t *node, void *to)
{
    struct sx_config_port *port = to;
    return add_dim(r, node, port->reshape, &port->reshape_rank);
}

static enum sx_rc read_reshape(struct reader *r, node_t *node, void *to)
{
    static const struct field fields[] = {{"shape", read_reshape_dim}};
    ((struct sx_config_port *)to)->has_reshape = true;
    return READ_FIELDS(r, node, fields, to);
}

static enum sx_rc read_optional(struct reader *r, node_t *node, void *to)
{
    return get_bool(r, node, &((struct sx_config_port *)to)->optional);
}

/* FORMAT_* describes images; tensors are taken as they are. */
static const struct field port_fields[] = {
    {"name", read_port_name},
    {"data_type", read_dtype},
    {"dims", read_dims},
    {"reshape", read_reshape},
    {"optional", read_optional},
    {"format", read_noted},
    {"label_filename", read_noted},
    {"is_shape_tensor", read_false},
    {"allow_ragged_batch", read_false},
    {"is_non_linear_format_io", read_false},
};

static enum sx_rc read_port(struct reader *r, node_t *node, struct sx_config_port **ports,
                            size_t *n)
{
    struct sx_config_port *grown = realloc(*ports, (*n + 1) * sizeof(**ports));
    if (!grown)
        return sx_fail(r->err, SX_NO_MEMORY, "%s: out of memory", r->where);
    *ports = grown;
    struct sx_config_port *port = &grown[(*n)++];
    *port = (struct sx_config_port){0};
    enum sx_rc rc = READ_FIELDS(r, node, port_fields, port);
    if (rc)
        return rc;
    if (!port->name || !*port->name)
        return FAIL_AT(r, SX_INVALID, node, "this %s has no name", node->name);
    for (size_t i = 0; i + 1 < *n; i++)
        if (strcmp(grown[i].name, port->name) == 0)
            return FAIL_AT(r, SX_INVALID, node, "%s '%s' is there twice", node->name, port->name);
    return SX_OK;
}

static enum sx_rc read_input(struct reader *r, node_t *node, void *to)
{
    struct sx_config *c = to;
    return read_port(r, node, &c->inputs, &c->n_inputs);
}

static enum sx_rc read_output(struct reader *r, node_t *node, void *to)
{
    struct sx_config *c = to;
    return read_port(r, node, &c->outputs, &c->n_outputs);
}

/* --- dynamic batching ------------------------------------------------------------------------- */

static enum sx_rc read_preferred(struct reader *r, node_t *node, void *to)
{
    struct sx_config *c = to;
    int64_t v = 0;
    enum sx_rc rc = get_int(r, node, 1, INT32_MAX, &v);
    if (rc)
        return rc;
    if (c->n_preferred == SX_MAX_PREFERRED)
        return FAIL_AT(r, SX_UNSUPPORTED, node, "more than %d preferred batch sizes",
                       SX_MAX_PREFERRED);
    unsigned at = c->n_preferred;
    while (at > 0 && c->preferred[at - 1] > (unsigned)v)
        at--;
    if (at > 0 && c->preferred[at - 1] == (unsigned)v)
        return SX_OK;
    memmove(&c->preferred[at + 1], &c->preferred[at],
            (c->n_preferred - at) * sizeof(*c->preferred));
    c->preferred[at] = (unsigned)v;
    c->n_preferred++;
    return SX_OK;
}

/* Microseconds into nanoseconds, bounded so that sums can't overflow. */
static enum sx_rc get_us(struct reader *r, node_t *node, uint64_t *ret_ns)
{
    int64_t v = 0;
    enum sx_rc rc = get_int(r, node, 0, INT64_C(1) << 50, &v);
    if (!rc)
        *ret_ns = (uint64_t)v * SX_US;
    return rc;
}

static enum sx_rc read_delay(struct reader *r, node_t *node, void *to)
{
    return get_us(r, node, &((struct sx_config *)to)->max_queue_delay_ns);
}

static enum sx_rc read_default_timeout(struct reader *r, node_t *node, void *to)
{
    return get_us(r, node, &((struct sx_config *)to)->default_timeout_ns);
}

static enum sx_rc read_queue_size(struct reader *r, node_t *node, void *to)
{
    int64_t v = 0;
    enum sx_rc rc = get_int(r, node, 0, UINT32_MAX, &v);
    if (!rc)
        ((struct sx_config *)to)->max_queue_size = (uint64_t)v;
    return rc;
}

static enum sx_rc read_timeout_action(struct reader *r, node_t *node, void *to)
{
    (void)to;
    const char *v = value_text(node);
    if (strcmp(v, "REJECT") == 0 || strcmp(v, "0") == 0)
        return SX_OK;
    if (strcmp(v, "DELAY") == 0 || strcmp(v, "1") == 0)
        return FAIL_AT(r, SX_UNSUPPORTED, node, "timeout_action %s: late requests are rejected", v);
    return FAIL_AT(r, SX_INVALID, node, "timeout_action: expected REJECT or DELAY, got '%.64s'", v);
}

/* Every request may override its timeout here, so the flag says nothing new. */
static const struct field policy_fields[] = {
    {"timeout_action", read_timeout_action},
    {"default_timeout_microseconds", read_default_timeout},
    {"allow_timeout_override", read_noted},
    {"max_queue_size", read_queue_size},
};

static enum sx_rc read_policy(struct reader *r, node_t *node, void *to)
{
    return READ_FIELDS(r, node, policy_fields, to);
}

static enum sx_rc read_level(struct reader *r, node_t *node, void *to)
{
    int64_t v = 0;
    enum sx_rc rc = get_int(r, node, 0, UINT32_MAX, &v);
    if (!rc)
        *(uint32_t *)to = (uint32_t)v;
    return rc;
}

static enum sx_rc read_levels(struct reader *r, node_t *node, void *to)
{
    return read_level(r, node, &((struct sx_config *)to)->priority_levels);
}

static enum sx_rc read_default_level(struct reader *r, node_t *node, void *to)
{
    return read_level(r, node, &((struct sx_config *)to)->default_priority_level);
}

/* One level's policy.  All levels wait in one queue: what the policy says must be right, but sizes
 * and times are those of default_queue_policy. */
static enum sx_rc read_level_policy(struct reader *r, node_t *node, void *to)
{
    struct sx_config unused;
    (void)to;
    return READ_FIELDS(r, node, policy_fields, &unused);
}

static enum sx_rc read_level_policies(struct reader *r, node_t *node, void *to)
{
    static const struct field fields[] = {{"key", read_level}, {"value", read_level_policy}};
    uint32_t level;
    (void)to;
    note(r->config, node->name);
    return READ_FIELDS(r, node, fields, &level);
}

static const struct field batching_fields[] = {
    {"preferred_batch_size", read_preferred},
    {"max_queue_delay_microseconds", read_delay},
    {"default_queue_policy", read_policy},
    {"preserve_ordering", read_noted},
    {"priority_levels", read_levels},
    {"default_priority_level", read_default_level},
    {"priority_queue_policy", read_level_policies},
};

static enum sx_rc read_batching(struct reader *r, node_t *node, void *to)
{
    struct sx_config *c = to;
    c->dynamic_batching = true;
    enum sx_rc rc = READ_FIELDS(r, node, batching_fields, to);
    if (rc)
        return rc;
    uint32_t levels = c->priority_levels, level = c->default_priority_level;
    if (levels && (!level || level > levels))
        return FAIL_AT(r, SX_INVALID, node, "default_priority_level %u is not from 1 to %u", level,
                       levels);
    if (level && !levels)
        note(c, "default_priority_level");
    return SX_OK;
}

/* --- versions --------------------------------------------------------------------------------- */

static enum sx_rc read_num_versions(struct reader *r, node_t *node, void *to)
{
    int64_t v = 0;
    enum sx_rc rc = get_int(r, node, 1, INT32_MAX, &v);
    if (!rc)
        ((struct sx_config *)to)->versions.latest = (unsigned)v;
    return rc;
}

static enum sx_rc read_specific_version(struct reader *r, node_t *node, void *to)
{
    struct sx_config_version_policy *p = &((struct sx_config *)to)->versions;
    int64_t v = 0;
    enum sx_rc rc = get_int(r, node, 1, INT64_MAX, &v);
    if (rc)
        return rc;
    int64_t *grown = realloc(p->specific, (p->n_specific + 1) * sizeof(*grown));
    if (!grown)
        return sx_fail(r->err, SX_NO_MEMORY, "%s: out of memory", r->where);
    p->specific = grown;
    grown[p->n_specific++] = v;
    return SX_OK;
}

static enum sx_rc read_latest(struct reader *r, node_t *node, void *to)
{
    static const struct field fields[] = {{"num_versions", read_num_versions}};
    ((struct sx_config *)to)->versions.kind = SX_VERSIONS_LATEST;
    return READ_FIELDS(r, node, fields, to);
}

static enum sx_rc read_all(struct reader *r, node_t *node, void *to)
{
    ((struct sx_config *)to)->versions.kind = SX_VERSIONS_ALL;
    return read_fields(r, node, NULL, 0, to);
}

static enum sx_rc read_specific(struct reader *r, node_t *node, void *to)
{
    static const struct field fields[] = {{"versions", read_specific_version}};
    ((struct sx_config *)to)->versions.kind = SX_VERSIONS_SPECIFIC;
    return READ_FIELDS(r, node, fields, to);
}

static enum sx_rc read_version_policy(struct reader *r, node_t *node, void *to)
{
    static const struct field fields[] = {
        {"latest", read_latest}, {"all", read_all}, {"specific", read_specific}};
    return READ_FIELDS(r, node, fields, to);
}

/* --- parameters ------------------------------------------------------------------------------- */

struct parameter {
    char key[128], value[512];
};

static enum sx_rc read_key(struct reader *r, node_t *node, void *to)
{
    struct parameter *p = to;
    return get_string(r, node, p->key, sizeof(p->key));
}

static enum sx_rc read_string_value(struct reader *r, node_t *node, void *to)
{
    struct parameter *p = to;
    return get_string(r, node, p->value, sizeof(p->value));
}

static enum sx_rc read_value(struct reader *r, node_t *node, void *to)
{
    static const struct field fields[] = {{"string_value", read_string_value}};
    return READ_FIELDS(r, node, fields, to);
}

/* Milliseconds, fractions allowed, as text. */
static enum sx_rc parameter_ms(struct reader *r, node_t *node, const struct parameter *p,
                               uint64_t *ret_ns)
{
    char *end;
    double ms = strtod(p->value, &end);
    if (end == p->value || *end || !(ms > 0 && ms <= 1e12))
        return FAIL_AT(r, SX_INVALID, node,
                       "parameter '%s': expected milliseconds above 0, got '%.64s'", p->key,
                       p->value);
    *ret_ns = (uint64_t)(ms * 1e6 + 0.5);
    return SX_OK;
}

/* A number as text, whole or not. */
static enum sx_rc parameter_number(struct reader *r, node_t *node, const struct parameter *p,
                                   double min, double max, bool whole, double *ret)
{
    char *end;
    double v = strtod(p->value, &end);
    if (end == p->value || *end || !(v >= min && v <= max) || (whole && v != floor(v)))
        return FAIL_AT(r, SX_INVALID, node,
                       "parameter '%s': expected a %snumber from %.10g to %.10g, got '%.64s'",
                       p->key, whole ? "whole " : "", min, max, p->value);
    *ret = v;
    return SX_OK;
}

static enum sx_rc read_parameter(struct reader *r, node_t *node, void *to)
{
    static const struct field fields[] = {{"key", read_key}, {"value", read_value}};
    struct sx_config *c = to;
    struct parameter p = {0};
    enum sx_rc rc = READ_FIELDS(r, node, fields, &p);
    if (rc)
        return rc;
    if (strcmp(p.key, "objective_ms") == 0)
        return parameter_ms(r, node, &p, &c->objective_ns);
    if (strcmp(p.key, "timeout_ms") == 0)
        return parameter_ms(r, node, &p, &c->default_timeout_ns);
    double v = 0;
    if (strcmp(p.key, "weight") == 0)
        return parameter_number(r, node, &p, MIN_WEIGHT, MAX_WEIGHT, false, &c->weight);
    if (strcmp(p.key, "priority") == 0) {
        rc = parameter_number(r, node, &p, -1000, 1000, true, &v);
        c->priority = (int)v;
        return rc;
    }
    if (strcmp(p.key, "max_queue_size") == 0) {
        rc = parameter_number(r, node, &p, 1, UINT32_MAX, true, &v);
        c->max_queue_size = (uint64_t)v;
        return rc;
    }
    note(c, "parameters");
    return SX_OK;
}

/* --- the file --------------------------------------------------------------------------------- */

static enum sx_rc read_name(struct reader *r, node_t *node, void *to)
{
    struct sx_config *c = to;
    return get_string(r, node, c->name, sizeof(c->name));
}

static enum sx_rc read_platform(struct reader *r, node_t *node, void *to)
{
    struct sx_config *c = to;
    enum sx_rc rc = get_string(r, node, c->platform, sizeof(c->platform));
    if (!rc && *c->platform && strcmp(c->platform, "onnxruntime_onnx") != 0)
        rc = FAIL_AT(r, SX_UNSUPPORTED, node, "platform '%s', this server runs onnxruntime_onnx",
                     c->platform);
    return rc;
}

static enum sx_rc read_backend(struct reader *r, node_t *node, void *to)
{
    struct sx_config *c = to;
    enum sx_rc rc = get_string(r, node, c->backend, sizeof(c->backend));
    if (!rc && *c->backend && strcmp(c->backend, "onnxruntime") != 0)
        rc = FAIL_AT(r, SX_UNSUPPORTED, node, "backend '%s', this server runs onnxruntime",
                     c->backend);
    return rc;
}

static enum sx_rc read_filename(struct reader *r, node_t *node, void *to)
{
    struct sx_config *c = to;
    enum sx_rc rc = get_string(r, node, c->default_filename, sizeof(c->default_filename));
    if (!rc && strchr(c->default_filename, '/'))
        rc = FAIL_AT(r, SX_INVALID, node, "'%s' is a path, expected a file's name", node->value);
    return rc;
}

static enum sx_rc read_max_batch(struct reader *r, node_t *node, void *to)
{
    struct sx_config *c = to;
    c->has_max_batch_size = true;
    return get_int(r, node, 0, INT32_MAX, &c->max_batch_size);
}

static enum sx_rc read_transaction(struct reader *r, node_t *node, void *to)
{
    static const struct field fields[] = {{"decoupled", read_false}};
    return READ_FIELDS(r, node, fields, to);
}

static enum sx_rc read_cache(struct reader *r, node_t *node, void *to)
{
    (void)to;
    static const struct field fields[] = {{"enable", read_bool}};
    bool enabled = false;
    enum sx_rc rc = READ_FIELDS(r, node, fields, &enabled);
    if (!rc && enabled)
        note(r->config, node->name);
    return rc;
}

static const struct field top_fields[] = {
    {"name", read_name},
    {"platform", read_platform},
    {"backend", read_backend},
    {"default_model_filename", read_filename},
    {"max_batch_size", read_max_batch},
    {"input", read_input},
    {"output", read_output},
    {"dynamic_batching", read_batching},
    {"version_policy", read_version_policy},
    {"parameters", read_parameter},
    {"model_transaction_policy", read_transaction},
    {"response_cache", read_cache},
    {"instance_group", read_noted},
    {"optimization", read_noted},
    {"model_warmup", read_noted},
    {"model_metrics", read_noted},
    {"metric_tags", read_noted},
    {"runtime", read_noted},
    {"cc_model_filenames", read_noted},
    {"ensemble_scheduling", read_unsupported},
    {"sequence_batching", read_unsupported},
    {"batch_input", read_unsupported},
    {"batch_output", read_unsupported},
    {"model_operations", read_unsupported},
    {"model_repository_agents", read_unsupported},
};

void sx_config_init(struct sx_config *config)
{
    *config = (struct sx_config){.versions = {.kind = SX_VERSIONS_LATEST, .latest = 1}};
}

static void free_ports(struct sx_config_port *ports, size_t n)
{
    for (size_t i = 0; i < n; i++)
        free(ports[i].name);
    free(ports);
}

void sx_config_fini(struct sx_config *config)
{
    free_ports(config->inputs, config->n_inputs);
    free_ports(config->outputs, config->n_outputs);
    free(config->versions.specific);
    sx_config_init(config);
}

enum sx_rc sx_config_parse(const char *text, size_t len, const char *where,
                           struct sx_config *config, struct sx_err *err)
{
    sx_config_init(config);
    struct sx_pbtxt tree;
    enum sx_rc rc = sx_pbtxt_parse(&tree, text, len, where, err);
    if (!rc) {
        struct reader r = {.tree = &tree, .config = config, .where = where, .err = err};
        rc = READ_FIELDS(&r, &tree.nodes[0], top_fields, config);
    }
    sx_pbtxt_fini(&tree);
    return rc;
}
