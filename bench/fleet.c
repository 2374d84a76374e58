/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
#include "fleet.h"

#include <stdlib.h>

#include "base/sbuf.h"

static size_t variants(struct sx_model *model, struct sx_variant_info *infos)
{
    size_t n = sx_model_variants(model, infos, SX_PLACE_VARIANTS);
    return n < SX_PLACE_VARIANTS ? n : SX_PLACE_VARIANTS;
}

void fleet_print_variants(struct sx_model *model, FILE *out)
{
    struct sx_variant_info infos[SX_PLACE_VARIANTS];
    size_t n = variants(model, infos);
    fprintf(out, "\"variants\": [");
    for (size_t i = 0; i < n; i++) {
        struct sx_sbuf name = {0};
        sx_sbuf_json(&name, infos[i].name);
        fprintf(out, "%s{\"name\": %s, \"stages\": [", i ? ", " : "",
                name.data ? name.data : "null");
        sx_sbuf_free(&name);
        for (unsigned s = 0; s < infos[i].n_stages; s++)
            fprintf(out, "%s{\"device\": %u, \"ns\": %.0f}", s ? ", " : "", infos[i].device[s],
                    infos[i].predicted_ns[s]);
        fprintf(out, "]}");
    }
    fprintf(out, "]");
}

void fleet_mark(struct sx_model *model, struct fleet_mark *mark)
{
    struct sx_variant_info infos[SX_PLACE_VARIANTS];
    mark->n = variants(model, infos);
    for (size_t i = 0; i < mark->n; i++)
        mark->runs[i] = infos[i].runs;
}

struct edge {
    uint64_t at;
    unsigned device;
    int step; /* 1: begins; -1: ends */
};

static int by_time(const void *a, const void *b)
{
    const struct edge *x = a, *y = b;
    if (x->at != y->at)
        return x->at < y->at ? -1 : 1;
    return x->step - y->step;
}

static void print_busy(const struct sx_span *spans, size_t n, unsigned n_devices, uint64_t begin,
                       uint64_t end, FILE *out)
{
    struct edge *edges = calloc(2 * n + 1, sizeof *edges);
    uint64_t busy[SX_PLACE_DEVICES] = {0}, all = 0;
    unsigned running[SX_PLACE_DEVICES] = {0}, active = 0;
    size_t m = 0;
    for (size_t i = 0; edges && i < n; i++) {
        uint64_t from = spans[i].begin_ns > begin ? spans[i].begin_ns : begin;
        uint64_t to = spans[i].end_ns < end ? spans[i].end_ns : end;
        if (from >= to || spans[i].device >= SX_PLACE_DEVICES)
            continue;
        edges[m++] = (struct edge){from, spans[i].device, 1};
        edges[m++] = (struct edge){to, spans[i].device, -1};
    }
    if (m)
        qsort(edges, m, sizeof *edges, by_time);
    for (size_t i = 0; i < m; i++) {
        uint64_t gap = i ? edges[i].at - edges[i - 1].at : 0;
        for (unsigned d = 0; d < n_devices; d++)
            busy[d] += running[d] ? gap : 0;
        all += active == n_devices ? gap : 0;
        unsigned *count = &running[edges[i].device];
        active -= *count > 0;
        *count = (unsigned)((int)*count + edges[i].step);
        active += *count > 0;
    }
    fprintf(out, "\"busy\": [");
    for (unsigned d = 0; d < n_devices; d++)
        fprintf(out, "%s%.4f", d ? ", " : "", (double)busy[d] / (double)(end - begin));
    fprintf(out, "], \"all_busy\": %.4f", (double)all / (double)(end - begin));
    free(edges);
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *values, size_t n)
{
    qsort(values, n, sizeof *values, ascending);
    return n % 2 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2;
}

static void print_stages(const struct sx_span *spans, size_t n, const struct sx_model *model,
                         uint64_t begin, uint64_t end, FILE *out)
{
    double *took = calloc(n + 1, sizeof *took), *told = calloc(n + 1, sizeof *told);
    const char *comma = "";
    fprintf(out, "\"spans\": [");
    for (unsigned v = 0; took && told && v < SX_PLACE_VARIANTS; v++) {
        for (unsigned s = 0; s < SX_PLACE_STAGES; s++) {
            size_t m = 0;
            for (size_t i = 0; i < n; i++) {
                if (spans[i].model != model || spans[i].variant != v || spans[i].stage != s ||
                    spans[i].begin_ns < begin || spans[i].end_ns > end)
                    continue;
                took[m] = (double)(spans[i].end_ns - spans[i].begin_ns);
                told[m++] = spans[i].predicted_ns;
            }
            if (!m)
                continue;
            fprintf(out,
                    "%s{\"variant\": %u, \"stage\": %u, \"n\": %zu, \"median_ns\": %.0f, "
                    "\"predicted_ns\": %.0f}",
                    comma, v, s, m, median(took, m), median(told, m));
            comma = ", ";
        }
    }
    fprintf(out, "]");
    free(took);
    free(told);
}

void fleet_print(struct sx_server *server, struct sx_model *model, unsigned n_devices,
                 const struct fleet_mark *mark, uint64_t begin, uint64_t end, FILE *out)
{
    struct fleet_mark now;
    fleet_mark(model, &now);
    fprintf(out, "\"runs\": [");
    for (size_t i = 0; i < now.n; i++)
        fprintf(out, "%s%llu", i ? ", " : "",
                (unsigned long long)(now.runs[i] - (i < mark->n ? mark->runs[i] : 0)));
    fprintf(out, "], ");
    struct sx_span *spans = calloc(FLEET_SPANS, sizeof *spans);
    size_t n = spans ? sx_server_trace(server, spans, FLEET_SPANS) : 0;
    n = n < FLEET_SPANS ? n : FLEET_SPANS;
    print_busy(spans, n, n_devices, begin, end, out);
    fprintf(out, ", ");
    print_stages(spans, n, model, begin, end, out);
    free(spans);
}
