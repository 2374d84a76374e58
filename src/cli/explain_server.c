/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * explain_server.c - `staronnx explain --server URL`: how a server's models share its machine.
 *
 * The server says it all at GET /v2/plan; here it is put into columns.
 */
#include <stdio.h>
#include <string.h>
#include <yyjson.h>

#include "base/clock.h"
#include "cli/cli.h"
#include "perf/http_client.h"

#define TIMEOUT_NS (10 * SX_S)

static double number(yyjson_val *object, const char *name)
{
    return yyjson_get_num(yyjson_obj_get(object, name));
}

static const char *text(yyjson_val *object, const char *name)
{
    const char *s = yyjson_get_str(yyjson_obj_get(object, name));

    return s ? s : "";
}

static bool flag(yyjson_val *object, const char *name)
{
    return yyjson_get_bool(yyjson_obj_get(object, name));
}

static int name_width(yyjson_val *models)
{
    yyjson_val *m;
    size_t i, n;
    int width = 5;

    yyjson_arr_foreach(models, i, n, m)
    {
        int len = (int)strlen(text(m, "name"));
        width = len > width && len <= 40 ? len : width;
    }
    return width;
}

/* Asked, answered in time: known with and without a plan. */
static void put_attainment(struct sx_sbuf *s, yyjson_val *m)
{
    if (yyjson_obj_get(m, "attainment"))
        sx_sbuf_printf(s, "%6.1f%%", 100 * number(m, "attainment"));
    else
        sx_sbuf_printf(s, "%7s", "-");
}

static void put_shared(struct sx_sbuf *s, yyjson_val *models)
{
    yyjson_val *m;
    size_t i, n;
    int width = name_width(models);

    sx_sbuf_printf(s, "%-*s  %12s  %6s  %4s  %8s  %5s  %5s  %9s  %9s  %6s  %8s  %7s\n", width,
                   "model", "objective ms", "weight", "prio", "asked /s", "units", "batch",
                   "run ms", "knees", "demand", "used", "in time");
    yyjson_arr_foreach(models, i, n, m)
    {
        char knees[32];
        snprintf(knees, sizeof knees, "%.0f/%.0f", number(m, "knee_efficacy"),
                 number(m, "knee_tolerance"));
        sx_sbuf_printf(s,
                       "%-*s  %12.4g  %6.3g  %4.0f  %8.4g  %5.0f  %5.0f  %9.4g  %9s  %5.1f%%  "
                       "%7.1f%%  ",
                       width, text(m, "name"), number(m, "objective_ms"), number(m, "weight"),
                       number(m, "priority"), number(m, "rate"), number(m, "units"),
                       number(m, "batch"), number(m, "predicted_ms"), knees,
                       100 * number(m, "demand"), 100 * number(m, "unit_share"));
        put_attainment(s, m);
        sx_sbuf_putc(s, '\n');
    }
    sx_sbuf_puts(s,
                 "\nknees: units by efficacy/by tolerance. demand: what the objective needs of the "
                 "machine. used: of the unit-time\nthat all had lately. in time: answered by the "
                 "deadline, of all that was asked.\n\n");
    yyjson_arr_foreach(models, i, n, m)
    {
        const char *state = !flag(m, "admitted") ? "refused, gets leftovers"
                            : flag(m, "shrunk")  ? "admitted, shrunk"
                                                 : "admitted";
        sx_sbuf_printf(s, "%s: %s. %s\n", text(m, "name"), state, text(m, "why"));
    }
}

static void put_unshared(struct sx_sbuf *s, yyjson_val *models)
{
    yyjson_val *m;
    size_t i, n;
    int width = name_width(models);

    sx_sbuf_printf(s, "%-*s  %12s  %8s  %7s\n", width, "model", "objective ms", "asked /s",
                   "in time");
    yyjson_arr_foreach(models, i, n, m)
    {
        sx_sbuf_printf(s, "%-*s  %12.4g  %8.4g  ", width, text(m, "name"),
                       number(m, "objective_ms"), number(m, "rate"));
        put_attainment(s, m);
        sx_sbuf_putc(s, '\n');
    }
}

static void put_plan(struct sx_sbuf *s, yyjson_val *root)
{
    yyjson_val *models = yyjson_obj_get(root, "models");

    sx_sbuf_printf(s, "%s\n", text(root, "verdict"));
    if (!flag(root, "sharing")) {
        if (yyjson_arr_size(models)) {
            sx_sbuf_putc(s, '\n');
            put_unshared(s, models);
        }
        return;
    }
    sx_sbuf_printf(
        s,
        "Policy %s on %.0f units; a session of %.4g ms; plan number %.0f, made %.1f s ago "
        "in %.2f ms.\n",
        text(root, "policy"), number(root, "units"), number(root, "session_ms"),
        number(root, "replans"), number(root, "age_s"), number(root, "plan_ms"));
    if (number(root, "overloads") > 0)
        sx_sbuf_printf(s,
                       "%.0f decisions since the policy began saw a promise that could not be "
                       "kept.\n",
                       number(root, "overloads"));
    sx_sbuf_putc(s, '\n');
    put_shared(s, models);
}

enum sx_rc sx_explain_server(const char *url, bool json, struct sx_err *err)
{
    struct sx_http_addr addr;
    struct sx_sbuf body = {0}, s = {0};
    yyjson_doc *doc = NULL;
    int status = 0;
    enum sx_rc rc = sx_http_resolve(url, &addr, err);

    if (!rc)
        rc = sx_http_fetch(&addr, "/v2/plan", NULL, TIMEOUT_NS, &status, &body, err);
    if (!rc && status == 404) {
        rc = sx_fail(err, SX_UNSUPPORTED, "'%s' has no /v2/plan", url);
        sx_hint(err, "it is another server, or an older version");
    } else if (!rc && status != 200) {
        rc = sx_fail(err, SX_UNAVAILABLE, "'%s' answers /v2/plan with status %d", url, status);
    }
    if (!rc && json) {
        puts(body.data ? body.data : "");
    } else if (!rc) {
        doc = body.data ? yyjson_read(body.data, body.len, 0) : NULL;
        if (!yyjson_is_arr(yyjson_obj_get(yyjson_doc_get_root(doc), "models")))
            rc = sx_fail(err, SX_INVALID, "what '%s' answers at /v2/plan is not a plan", url);
        else
            put_plan(&s, yyjson_doc_get_root(doc));
        if (!rc && s.failed)
            rc = sx_fail(err, SX_NO_MEMORY, "no memory for the answer");
        if (!rc)
            fputs(s.data, stdout);
    }
    yyjson_doc_free(doc);
    sx_sbuf_free(&body);
    sx_sbuf_free(&s);
    return rc;
}
