/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * v2_plan.c - the document behind GET /v2/plan: how the models share the machine, and why.
 *
 * Times are in milliseconds, shares are numbers from 0 to 1.  What is not known is left out.
 */
#include <inttypes.h>
#include <math.h>

#include "wire/v2_int.h"

static void put_number(struct sx_sbuf *s, const char *name, double value)
{
    if (isfinite(value)) /* JSON has no other numbers */
        sx_sbuf_printf(s, ",\"%s\":%.6g", name, value);
}

static void put_bool(struct sx_sbuf *s, const char *name, bool value)
{
    sx_sbuf_printf(s, ",\"%s\":%s", name, value ? "true" : "false");
}

static void put_share(struct sx_sbuf *s, const struct sx_server_plan_model *m)
{
    const struct sx_share_plan *p = &m->plan;
    put_bool(s, "admitted", p->admitted);
    put_bool(s, "shrunk", p->shrunk);
    sx_sbuf_printf(s, ",\"units\":%u,\"batch\":%u", p->units, p->batch);
    put_number(s, "predicted_ms", p->ns * 1e-6);
    sx_sbuf_printf(s, ",\"knee_efficacy\":%u,\"knee_tolerance\":%u", p->knee_efficacy,
                   p->knee_tolerance);
    put_number(s, "demand", p->demand);
    put_number(s, "score_ms", m->score * 1e-6);
    put_number(s, "unit_share", m->unit_share);
    sx_sbuf_puts(s, ",\"why\":");
    sx_sbuf_json(s, p->why);
}

static void put_model(struct sx_sbuf *s, const struct sx_server_plan_model *m, bool sharing)
{
    sx_sbuf_puts(s, "{\"name\":");
    sx_sbuf_json(s, m->name);
    sx_sbuf_printf(s, ",\"version\":\"%" PRId64 "\"", m->version);
    put_number(s, "objective_ms", m->objective_ns * 1e-6);
    put_number(s, "weight", m->weight);
    sx_sbuf_printf(s, ",\"priority\":%d", m->priority);
    put_number(s, "rate", m->rate);
    if (sharing)
        put_share(s, m);
    sx_sbuf_printf(s,
                   ",\"asked\":%" PRIu64 ",\"in_time\":%" PRIu64 ",\"queued\":%" PRIu64
                   ",\"running\":%" PRIu64,
                   m->asked, m->in_time, m->queued, m->running);
    if (m->attainment >= 0)
        put_number(s, "attainment", m->attainment);
    sx_sbuf_putc(s, '}');
}

void sx_v2_put_plan(struct sx_sbuf *s, const struct sx_server_plan *p)
{
    sx_sbuf_puts(s, "{\"policy\":");
    sx_sbuf_json(s, p->policy);
    put_bool(s, "sharing", p->sharing);
    sx_sbuf_puts(s, ",\"verdict\":");
    sx_sbuf_json(s, p->verdict);
    sx_sbuf_printf(s, ",\"units\":%u,\"replans\":%" PRIu64, p->n_units, p->replans);
    if (p->sharing) {
        put_number(s, "session_ms", p->session_ns * 1e-6);
        put_number(s, "demand", p->demand);
        put_bool(s, "feasible", p->feasible);
        sx_sbuf_printf(s, ",\"refused\":%u,\"shrunk\":%u,\"overloads\":%" PRIu64, p->refused,
                       p->shrunk, p->overloads);
        put_number(s, "age_s", p->age_s);
        put_number(s, "plan_ms", p->plan_s * 1e3);
    }
    sx_sbuf_puts(s, ",\"models\":[");
    for (size_t i = 0; i < p->n_models; i++) {
        if (i)
            sx_sbuf_putc(s, ',');
        put_model(s, &p->models[i], p->sharing);
    }
    sx_sbuf_puts(s, "]}");
}
