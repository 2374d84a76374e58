/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
#include "perf/http_request.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

static void add_escaped(struct sx_sbuf *s, const char *name)
{
    for (; *name; name++) {
        if (isalnum((unsigned char)*name) || strchr("-._~!$&'()*+,;=:@", *name))
            sx_sbuf_putc(s, *name);
        else
            sx_sbuf_printf(s, "%%%02X", (unsigned char)*name);
    }
}

void sx_request_path(struct sx_sbuf *s, const char *model, const char *version, const char *tail)
{
    sx_sbuf_puts(s, "/v2/models/");
    add_escaped(s, model);
    if (version && version[0]) {
        sx_sbuf_puts(s, "/versions/");
        add_escaped(s, version);
    }
    sx_sbuf_puts(s, tail);
}

#define ADD(type, format)                                                                          \
    {                                                                                              \
        type x;                                                                                    \
        memcpy(&x, at, sizeof(x));                                                                 \
        sx_sbuf_printf(s, format, x);                                                              \
        break;                                                                                     \
    }

static void add_element(struct sx_sbuf *s, enum sx_dtype dtype, const unsigned char *at)
{
    switch (dtype) {
    case SX_BOOL:
        sx_sbuf_puts(s, *at ? "true" : "false");
        break;
    case SX_UINT8:
        ADD(uint8_t, "%u")
    case SX_UINT16:
        ADD(uint16_t, "%u")
    case SX_UINT32:
        ADD(uint32_t, "%u")
    case SX_UINT64:
        ADD(unsigned long long, "%llu")
    case SX_INT8:
        ADD(int8_t, "%d")
    case SX_INT16:
        ADD(int16_t, "%d")
    case SX_INT32:
        ADD(int32_t, "%d")
    case SX_INT64:
        ADD(long long, "%lld")
    case SX_FP32:
        ADD(float, "%.9g")
    case SX_FP64:
        ADD(double, "%.17g")
    default:
        break;
    }
}

static enum sx_rc add_json_data(struct sx_sbuf *s, const struct sx_tensor *t, struct sx_err *err)
{
    sx_sbuf_puts(s, ",\"data\":[");
    const unsigned char *at = t->data, *end = t->data + t->nbytes;
    while (at < end) {
        if (at > t->data)
            sx_sbuf_putc(s, ',');
        if (t->dtype == SX_BYTES) {
            uint32_t len;
            memcpy(&len, at, 4);
            char *text = strndup((const char *)at + 4, len);
            if (!text)
                return sx_fail(err, SX_NO_MEMORY, "out of memory");
            sx_sbuf_json(s, text);
            free(text);
            at += 4 + len;
        } else {
            add_element(s, t->dtype, at);
            at += sx_dtype_size(t->dtype);
        }
    }
    sx_sbuf_putc(s, ']');
    return SX_OK;
}

static enum sx_rc add_input(struct sx_sbuf *s, const struct sx_input_info *in,
                            const struct sx_tensor *t, bool json, struct sx_err *err)
{
    if (json && (t->dtype == SX_FP16 || t->dtype == SX_BF16))
        return sx_fail(err, SX_UNSUPPORTED, "input '%s': JSON can't carry %s", in->name,
                       sx_dtype_name(t->dtype));
    sx_sbuf_puts(s, "{\"name\":");
    sx_sbuf_json(s, in->name);
    sx_sbuf_puts(s, ",\"shape\":[");
    for (int i = 0; i < t->rank; i++)
        sx_sbuf_printf(s, "%s%lld", i ? "," : "", (long long)t->dims[i]);
    sx_sbuf_printf(s, "],\"datatype\":\"%s\"", sx_dtype_name(t->dtype));
    enum sx_rc rc = SX_OK;
    if (json)
        rc = add_json_data(s, t, err);
    else
        sx_sbuf_printf(s, ",\"parameters\":{\"binary_data_size\":%zu}", t->nbytes);
    sx_sbuf_putc(s, '}');
    return rc;
}

static enum sx_rc build(struct sx_sbuf *out, const struct sx_http_addr *server,
                        const struct sx_request_form *f, const struct sx_model_info *m,
                        const struct sx_tensor *t, struct sx_err *err)
{
    struct sx_sbuf j = {0};
    enum sx_rc rc = SX_OK;
    const char *comma = "";
    sx_sbuf_puts(&j, "{\"parameters\":{");
    if (!f->json) {
        sx_sbuf_puts(&j, "\"binary_data_output\":true");
        comma = ",";
    }
    if (f->timeout_us) {
        sx_sbuf_printf(&j, "%s\"timeout\":%llu", comma, (unsigned long long)f->timeout_us);
        comma = ",";
    }
    if (f->priority)
        sx_sbuf_printf(&j, "%s\"priority\":%d", comma, f->priority);
    sx_sbuf_puts(&j, "},\"inputs\":[");
    size_t binary = 0;
    for (int i = 0; i < m->n_inputs && !rc; i++) {
        if (i)
            sx_sbuf_putc(&j, ',');
        rc = add_input(&j, &m->input[i], &t[i], f->json, err);
        binary += f->json ? 0 : t[i].nbytes;
    }
    sx_sbuf_puts(&j, "]}");

    sx_sbuf_puts(out, "POST ");
    sx_request_path(out, f->model, f->version, "/infer");
    sx_sbuf_printf(out, " HTTP/1.1\r\nHost: %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\n",
                   server->host, f->json ? "application/json" : "application/octet-stream",
                   j.len + binary);
    if (!f->json)
        sx_sbuf_printf(out, "Inference-Header-Content-Length: %zu\r\n", j.len);
    sx_sbuf_puts(out, "\r\n");
    sx_sbuf_add(out, j.data, j.len);
    for (int i = 0; i < m->n_inputs && !f->json; i++)
        sx_sbuf_add(out, t[i].data, t[i].nbytes);
    if (!rc && (j.failed || out->failed))
        rc = sx_fail(err, SX_NO_MEMORY, "out of memory for a request");
    sx_sbuf_free(&j);
    return rc;
}

enum sx_rc sx_request_set_build(struct sx_request_set *s, const struct sx_http_addr *server,
                                const struct sx_request_form *form, const struct sx_model_info *m,
                                const struct sx_dataset *d, struct sx_err *err)
{
    memset(s, 0, sizeof(*s));
    s->request = calloc(d->n_samples, sizeof(*s->request));
    s->bytes = calloc(d->n_samples, sizeof(*s->bytes));
    enum sx_rc rc =
        s->request && s->bytes ? SX_OK : sx_fail(err, SX_NO_MEMORY, "out of memory for requests");
    for (size_t i = 0; i < d->n_samples && !rc; i++) {
        rc = build(&s->bytes[i], server, form, m, &d->tensor[i * (size_t)d->n_inputs], err);
        s->request[i] = (struct sx_http_request){s->bytes[i].data, s->bytes[i].len};
        s->n++;
    }
    if (rc)
        sx_request_set_fini(s);
    return rc;
}

void sx_request_set_fini(struct sx_request_set *s)
{
    for (size_t i = 0; i < s->n; i++)
        sx_sbuf_free(&s->bytes[i]);
    free(s->bytes);
    free(s->request);
    memset(s, 0, sizeof(*s));
}
