/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * http_test.c - the HTTP front against sockets: a real server with the fake engine behind it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <arpa/inet.h>
#include <cmocka.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/sbuf.h"
#include "front/http.h"
#include "serve/server.h"
#include "tensor/tensor.h"

static struct {
    char dir[64];
    struct sx_engine *engine;
    struct sx_unit units[2];
    struct sx_machine machine;
    struct sx_server *server;
    struct sx_httpd *httpd;
    uint16_t port;
} f;

static void load(const char *name, const char *spec, const char *config_text)
{
    char path[128];
    struct sx_err err;
    struct sx_config config;
    snprintf(path, sizeof(path), "%s/%s.fake", f.dir, name);
    assert_int_equal(sx_file_write(path, spec, strlen(spec), NULL), SX_OK);
    assert_int_equal(
        sx_config_parse(config_text, strlen(config_text), "config.pbtxt", &config, &err), SX_OK);
    if (sx_server_load(f.server, name, 1, path, &config, &err))
        fail_msg("%s", err.message);
    sx_config_fini(&config);
}

static int setup(void **state)
{
    (void)state;
    struct sx_err err;
    sx_log_set_level(SX_LOG_ERROR);
    strcpy(f.dir, "/tmp/sx-http-test-XXXXXX");
    assert_non_null(mkdtemp(f.dir));
    struct sx_engine_config ec = {.name = "fake"};
    assert_int_equal(sx_engine_create(&ec, &f.engine, &err), SX_OK);
    for (int u = 0; u < 2; u++)
        f.units[u].cpu = u;
    f.machine.units = f.units;
    f.machine.n_units = 2;
    struct sx_server_config sc = {
        .engine = f.engine, .machine = &f.machine, .exec = SX_EXEC_STARPU, .no_profiling = true};
    if (sx_server_create(&sc, &f.server, &err))
        fail_msg("%s", err.message);
    load("quick", "input x FP32 -1 2\noutput y FP32 -1 2\ntime base_us=10\n", "");
    load("slow", "input x FP32 1\noutput y FP32 1\ntime base_us=300000\n", "");
    load("text", "input x BYTES -1 1\noutput y BYTES -1 1\ntime base_us=10\n", "");
    load("big", "input x FP32 -1\noutput y FP32 -1\ntime base_us=10\n", "max_batch_size: 0");
    load("crowd", "input x FP32 1\noutput y FP32 1\ntime base_us=300000\n",
         "parameters { key: \"max_queue_size\" value { string_value: \"2000\" } }");
    load("wide", "input x FP32 20000\noutput y FP32 20000\ntime base_us=300000\n",
         "parameters { key: \"objective_ms\" value { string_value: \"700\" } }");
    struct sx_httpd_config hc = {.server = f.server, .max_body = 4 << 20, .idle_timeout_s = 2};
    if (sx_httpd_create(&hc, &f.httpd, &err))
        fail_msg("%s", err.message);
    f.port = sx_httpd_port(f.httpd);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    sx_httpd_quiesce(f.httpd);
    assert_int_equal(sx_server_drain(f.server, sx_now() + 5 * SX_S), SX_OK);
    sx_httpd_destroy(f.httpd);
    sx_server_destroy(f.server);
    sx_engine_destroy(f.engine);
    return sx_dir_remove(f.dir, NULL) ? -1 : 0;
}

/* --- a client ------------------------------------------------------------------------ */

static int dial(uint16_t port)
{
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in to = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct timeval patience = {.tv_sec = 20};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof(to)), 0);
    return fd;
}

static void give(int fd, const void *data, size_t len)
{
    const char *p = data;
    while (len > 0) {
        ssize_t n = send(fd, p, len, MSG_NOSIGNAL);
        if (n <= 0)
            return; /* the server hung up; the answer tells */
        p += n;
        len -= (size_t)n;
    }
}

struct reply {
    int status;
    struct sx_sbuf text; /* head and body */
    const char *body;
    size_t body_len;
};

/* One answer; false when the connection ended without one. */
static bool receive(int fd, struct reply *r)
{
    char piece[65536];
    sx_sbuf_clear(&r->text);
    for (;;) {
        const char *head_end = r->text.data ? strstr(r->text.data, "\r\n\r\n") : NULL;
        if (head_end) {
            const char *length = strcasestr(r->text.data, "\r\nContent-Length:");
            size_t want = length ? strtoul(length + 17, NULL, 10) : 0;
            r->body = head_end + 4;
            r->body_len = (size_t)(r->text.data + r->text.len - r->body);
            if (r->body_len >= want)
                break;
        }
        ssize_t n = recv(fd, piece, sizeof(piece), 0);
        if (n <= 0)
            return false;
        sx_sbuf_add(&r->text, piece, (size_t)n);
    }
    r->status = atoi(r->text.data + 9);
    return true;
}

static void post(struct sx_sbuf *s, const char *path, const char *headers, const void *body,
                 size_t len)
{
    sx_sbuf_printf(s, "POST %s HTTP/1.1\r\nHost: x\r\n%sContent-Length: %zu\r\n\r\n", path, headers,
                   len);
    sx_sbuf_add(s, body, len);
}

/* One request on a connection of its own. */
static int ask(const char *request, size_t len, struct reply *r)
{
    int fd = dial(f.port);
    give(fd, request, len);
    r->status = 0;
    bool ok = receive(fd, r);
    close(fd);
    return ok ? r->status : 0;
}

static int get(const char *path, struct reply *r)
{
    char text[512];
    int n = snprintf(text, sizeof(text), "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", path);
    return ask(text, (size_t)n, r);
}

static int post_json(const char *path, const char *json, struct reply *r)
{
    struct sx_sbuf s = {0};
    post(&s, path, "", json, strlen(json));
    int status = ask(s.data, s.len, r);
    sx_sbuf_free(&s);
    return status;
}

static void has(const struct reply *r, const char *text)
{
    if (!strstr(r->text.data, text))
        fail_msg("'%s' is not in '%s'", text, r->text.data);
}

static void ms(unsigned n)
{
    nanosleep(&(struct timespec){.tv_sec = n / 1000, .tv_nsec = (long)(n % 1000) * 1000000}, NULL);
}

/* --- tests --------------------------------------------------------------------------- */

#define QUICK "/v2/models/quick/infer"
#define QUICK_JSON                                                                                 \
    "{\"id\":\"7\",\"inputs\":[{\"name\":\"x\",\"shape\":[1,2],\"datatype\":\"FP32\","             \
    "\"data\":[1,2.5]}]}"

static void test_documents(void **state)
{
    (void)state;
    struct reply r = {0};
    static const struct {
        const char *path;
        int status;
        const char *text;
    } gets[] = {
        {"/v2", 200, "\"extensions\":[\"binary_tensor_data\""},
        {"/v2/", 200, "\"name\":\"staronnx\""},
        {"/v2/health/live", 200, "{\"live\":true}"},
        {"/v2/health/ready", 200, "{\"ready\":true}"},
        {"/v2/models/quick", 200,
         "{\"name\":\"quick\",\"versions\":[\"1\"],\"platform\":\"onnxruntime_onnx\",\"inputs\":[{"
         "\"name\":\"x\",\"datatype\":\"FP32\",\"shape\":[-1,2]}]"},
        {"/v2/models/quick/versions/1", 200, "\"quick\""},
        {"/v2/models/quick/versions/1/ready", 200, "\"ready\":true"},
        {"/v2/models/quick/config", 200, "\"max_batch_size\":4"},
        {"/v2/models/quick/stats", 200, "\"cache_miss\":{\"count\":0,\"ns\":0}"},
        {"/v2/models/stats", 200, "\"slow\""},
        {"/v2/models/none", 404, "Request for unknown model"},
        {"/v2/models/none/ready", 400, "Request for unknown model"},
        {"/v2/models/quick/versions/2", 404, "Request for unknown model"},
        {"/v2/models/quick/versions/x", 404, "Not Found"},
        {"/v2/models/quick/", 404, "Not Found"},
        {"/v2/models/quick/versions/1/ready/x", 404, "Not Found"},
        {"/v2/models/", 404, "Not Found"},
        {"/", 404,
         "{\"error\":\"Not Found: there is no path '/'; paths begin with /v2, such as "
         "/v2/models/NAME/infer\"}"},
        {"/v2x", 404, "Not Found"},
        {QUICK, 405, "{\"error\":\"Method Not Allowed: '" QUICK "' takes POST, not GET\"}"},
        {"/v2/repository/index", 405, "Method Not Allowed"},
        {"/v2/plan", 200, "{\"policy\":\"fair\",\"sharing\":true,\"verdict\":\""},
        {"/v2/plan/x", 404, "Not Found"},
    };
    for (size_t i = 0; i < sizeof(gets) / sizeof(*gets); i++) {
        if (get(gets[i].path, &r) != gets[i].status)
            fail_msg("%s: %s", gets[i].path, r.text.data);
        has(&r, gets[i].text);
    }
    assert_int_equal(post_json("/v2/health/live", "", &r), 405);
    assert_int_equal(post_json("/v2/plan", "", &r), 405);
    assert_int_equal(post_json("/v2/repository/index", "", &r), 200);
    has(&r, "{\"name\":\"big\",\"version\":\"1\",\"state\":\"READY\",\"reason\":\"\"}");
    assert_int_equal(post_json("/v2/repository/index", "{\"ready\":true}", &r), 200);
    assert_int_equal(post_json("/v2/repository/index", "{\"ready\":1}", &r), 400);
    assert_int_equal(post_json("/v2/repository/models/quick/load", "{}", &r), 501);
    has(&r, "they are loaded when the server starts");
    assert_int_equal(post_json("/v2/repository/models/any/unload", "", &r), 501);
    assert_int_equal(post_json("/v2/repository/models/quick/move", "", &r), 404);
    assert_int_equal(post_json("/v2/repository/models//load", "", &r), 404);
    assert_int_equal(get("/v2/repository/models/quick/load", &r), 405);
    assert_int_equal(get("/v2", &r), 200);
    assert_null(strstr(r.text.data, "model_repository"));
    sx_sbuf_free(&r.text);
}

static void test_infer_json(void **state)
{
    (void)state;
    struct reply r = {0};
    assert_int_equal(post_json(QUICK, QUICK_JSON, &r), 200);
    assert_string_equal(
        r.body, "{\"id\":\"7\",\"model_name\":\"quick\",\"model_version\":\"1\",\"outputs\":"
                "[{\"name\":\"y\",\"datatype\":\"FP32\",\"shape\":[1,2],"
                "\"data\":[3.0,6.0]}]}");
    has(&r, "Content-Type: application/json");
    assert_null(strstr(r.text.data, "Inference-Header"));
    assert_int_equal(post_json(QUICK,
                               "{\"inputs\":[{\"name\":\"x\",\"shape\":[1,3],\"datatype\":"
                               "\"FP32\",\"data\":[1,2,3]}]}",
                               &r),
                     400);
    has(&r, "{\"error\":\"");
    assert_int_equal(post_json(QUICK,
                               "{\"inputs\":[{\"name\":\"x\",\"shape\":[0,2],\"datatype\":"
                               "\"FP32\",\"data\":[]}]}",
                               &r),
                     400);
    has(&r, "a batch of 0 samples for model 'quick': send at least one");
    assert_int_equal(post_json(QUICK, "{\"inputs\":", &r), 400);
    has(&r, "failed to parse the request JSON at byte 10");
    assert_int_equal(post_json(QUICK, "", &r), 400);
    assert_int_equal(post_json("/v2/models/none/infer", QUICK_JSON, &r), 404);
    has(&r, "Request for unknown model");
    sx_sbuf_free(&r.text);
}

#define BINARY_JSON                                                                                \
    "{\"inputs\":[{\"name\":\"x\",\"shape\":[1,2],\"datatype\":\"FP32\",\"parameters\":"           \
    "{\"binary_data_size\":8}}],\"parameters\":{\"binary_data_output\":true}}"

static void binary_request(struct sx_sbuf *s)
{
    char headers[64], body[sizeof(BINARY_JSON) + 7];
    snprintf(headers, sizeof(headers), "Inference-Header-Content-Length: %zu\r\n",
             sizeof(BINARY_JSON) - 1);
    memcpy(body, BINARY_JSON, sizeof(BINARY_JSON) - 1);
    memcpy(body + sizeof(BINARY_JSON) - 1, (float[]){1, 2}, 8);
    post(s, QUICK, headers, body, sizeof(body));
}

static void check_binary(const struct reply *r)
{
    assert_int_equal(r->status, 200);
    float y[2];
    memcpy(y, r->body + r->body_len - 8, 8);
    assert_true(y[0] == 3 && y[1] == 5);
    has(r, "Content-Type: application/octet-stream");
    const char *length = strstr(r->text.data, "Inference-Header-Content-Length: ");
    assert_non_null(length);
    assert_int_equal(strtoul(length + 33, NULL, 10), r->body_len - 8);
    has(r, "\"parameters\":{\"binary_data_size\":8}");
}

static void test_infer_binary(void **state)
{
    (void)state;
    struct reply r = {0};
    struct sx_sbuf s = {0};
    binary_request(&s);
    int fd = dial(f.port);
    for (int i = 0; i < 20; i++) { /* kept alive */
        give(fd, s.data, s.len);
        assert_true(receive(fd, &r));
        check_binary(&r);
    }
    /* one byte at a time */
    for (size_t i = 0; i < s.len; i++)
        give(fd, s.data + i, 1);
    assert_true(receive(fd, &r));
    check_binary(&r);
    close(fd);
    /* raw, more than is copied behind the JSON */
    size_t n = 300000;
    float *x = calloc(n, sizeof(*x));
    for (size_t i = 0; i < n; i++)
        x[i] = (float)i;
    sx_sbuf_clear(&s);
    post(&s, "/v2/models/big/infer", "Inference-Header-Content-Length: 0\r\n", x, n * sizeof(*x));
    assert_int_equal(ask(s.data, s.len, &r), 200);
    const char *y = r.body + r.body_len - n * sizeof(*x);
    for (size_t i = 0; i < n; i += 997) {
        float v;
        memcpy(&v, y + i * sizeof(v), sizeof(v));
        assert_true(v == 2 * (float)i + 1);
    }
    free(x);
    sx_sbuf_free(&s);
    sx_sbuf_free(&r.text);
}

static void test_chunked(void **state)
{
    (void)state;
    struct reply r = {0};
    struct sx_sbuf s = {0};
    sx_sbuf_puts(&s, "POST " QUICK " HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n");
    for (size_t at = 0, len = strlen(QUICK_JSON), n; at < len; at += n) {
        n = len - at < 3 ? len - at : 3;
        sx_sbuf_printf(&s, "%zx\r\n%.3s\r\n", n, &QUICK_JSON[at]);
    }
    sx_sbuf_puts(&s, "0\r\n\r\n");
    assert_int_equal(ask(s.data, s.len, &r), 200);
    has(&r, "[3.0,6.0]");
    /* a chunked body over the limit: the rest is swallowed, then refused */
    sx_sbuf_clear(&s);
    sx_sbuf_puts(&s, "POST " QUICK " HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n");
    char *zeros = calloc(1, 1 << 20);
    for (int i = 0; i < 5; i++) {
        sx_sbuf_printf(&s, "%x\r\n", 1 << 20);
        sx_sbuf_add(&s, zeros, 1 << 20);
        sx_sbuf_puts(&s, "\r\n");
    }
    free(zeros);
    sx_sbuf_puts(&s, "0\r\n\r\n");
    assert_int_equal(ask(s.data, s.len, &r), 413);
    has(&r, "--http-max-input-size");
    sx_sbuf_free(&s);
    sx_sbuf_free(&r.text);
}

/* A call is recycled: what the last request said of its length says nothing of the next one's. */
static void test_recycled(void **state)
{
    (void)state;
    enum { LARGE = 1 << 20 };
    struct reply r = {0};
    struct sx_sbuf s = {0};
    char *zeros = calloc(1, LARGE);
    post(&s, "/v2/models/big/infer", "Inference-Header-Content-Length: 0\r\n", zeros, LARGE);
    int fd = dial(f.port);
    give(fd, s.data, s.len);
    assert_true(receive(fd, &r));
    assert_int_equal(r.status, 200);
    sx_sbuf_clear(&s);
    post(&s, "/v2/nowhere", "", zeros, 20000);
    free(zeros);
    give(fd, s.data, s.len / 2);
    give(fd, s.data + s.len / 2, s.len - s.len / 2);
    assert_true(receive(fd, &r));
    assert_int_equal(r.status, 404);
    give(fd, "GET /v2 HTTP/1.1\r\nHost: x\r\n\r\n", 30);
    assert_true(receive(fd, &r));
    assert_int_equal(r.status, 200);
    close(fd);
    sx_sbuf_free(&s);
    sx_sbuf_free(&r.text);
}

/* A length that is only promised reserves little; what comes gets its place. */
static void test_promised(void **state)
{
    (void)state;
    enum { N = 900000 };
    struct reply r = {0};
    struct sx_sbuf s = {0};
    struct sx_pool *pool = sx_server_pool(f.server);
    float *x = calloc(N, sizeof(*x));
    for (size_t i = 0; i < N; i++)
        x[i] = (float)i;
    post(&s, "/v2/models/big/infer", "Inference-Header-Content-Length: 0\r\n", x, N * sizeof(*x));
    size_t head = s.len - N * sizeof(*x), bytes = 0; /* in use */
    uint64_t until = sx_now() + 10 * SX_S;
    int fd = dial(f.port);
    give(fd, s.data, head + 1);
    while (bytes < 1 << 20 && sx_now() < until) {
        sx_pool_trim(pool);
        bytes = sx_pool_bytes(pool);
    }
    assert_in_range(bytes, 1 << 20, (2 << 20) - 1);
    give(fd, s.data + head + 1, s.len - head - 1);
    assert_true(receive(fd, &r));
    assert_int_equal(r.status, 200);
    const char *y = r.body + r.body_len - N * sizeof(*x);
    for (size_t i = 0; i < N; i += 997) {
        float v;
        memcpy(&v, y + i * sizeof(v), sizeof(v));
        assert_true(v == 2 * (float)i + 1);
    }
    close(fd);
    free(x);
    sx_sbuf_free(&s);
    sx_sbuf_free(&r.text);
}

/* A large body may come slowly, as long as it comes. */
static void test_slow_body(void **state)
{
    (void)state;
    enum { N = 100000, PIECE = 1000 };
    struct reply r = {0};
    struct sx_sbuf s = {0};
    struct sx_httpd *h;
    struct sx_httpd_config c = {.server = f.server, .idle_timeout_s = 1};
    assert_int_equal(sx_httpd_create(&c, &h, NULL), SX_OK);
    float *x = calloc(N, sizeof(*x));
    post(&s, "/v2/models/big/infer", "Inference-Header-Content-Length: 0\r\n", x, N * sizeof(*x));
    free(x);
    int fd = dial(sx_httpd_port(h));
    size_t at = 0;
    uint64_t until = sx_now() + 2 * SX_S; /* at 50 KB/s or less, then the rest */
    for (; sx_now() < until && at < s.len / 2; at += PIECE, ms(20))
        give(fd, s.data + at, PIECE);
    give(fd, s.data + at, s.len - at);
    assert_true(receive(fd, &r));
    assert_int_equal(r.status, 200);
    close(fd);
    sx_httpd_destroy(h);
    sx_sbuf_free(&s);
    sx_sbuf_free(&r.text);
}

static void test_no_memory(void **state)
{
    (void)state;
    struct reply r = {0};
    struct sx_pool *pool = sx_server_pool(f.server);
    sx_pool_set_limit(pool, 1);
    sx_pool_trim(pool);
    int status = post_json(QUICK, QUICK_JSON, &r);
    sx_pool_set_limit(pool, 0);
    assert_int_equal(status, 503);
    has(&r, "no memory for the request; send it again later");
    has(&r, "Retry-After: ");
    sx_sbuf_free(&r.text);
}

/* A chunked body ends where its chunks do, whatever a Content-Length says. */
static void test_chunked_with_length(void **state)
{
    (void)state;
    static const char *const lengths[] = {"300000", "2", "99999999"};
    struct reply r = {0};
    struct sx_sbuf s = {0};
    for (size_t i = 0; i < sizeof(lengths) / sizeof(*lengths); i++) {
        sx_sbuf_clear(&s);
        sx_sbuf_printf(&s,
                       "POST " QUICK " HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
                       "Content-Length: %s\r\nInference-Header-Content-Length: %zu\r\n\r\n",
                       lengths[i], strlen(QUICK_JSON));
        for (size_t at = 0, len = strlen(QUICK_JSON), n; at < len; at += n) {
            n = len - at < 9 ? len - at : 9;
            sx_sbuf_printf(&s, "%zx\r\n%.9s\r\n", n, &QUICK_JSON[at]);
        }
        sx_sbuf_puts(&s, "0\r\n\r\n");
        int fd = dial(f.port);
        for (size_t at = 0; at < s.len; at += 50)
            give(fd, s.data + at, s.len - at < 50 ? s.len - at : 50);
        assert_true(receive(fd, &r));
        if (r.status != 200)
            fail_msg("%s", r.text.data);
        close(fd);
    }
    sx_sbuf_free(&s);
    sx_sbuf_free(&r.text);
}

static void test_refused(void **state)
{
    (void)state;
    struct reply r = {0};
    struct sx_sbuf s = {0};
    static const struct {
        const char *headers;
        int status;
        const char *text;
    } cases[] = {
        {"Content-Length: 99999999\r\nExpect: 100-continue\r\n", 413, "--http-max-input-size"},
        {"Content-Length: 2\r\nInference-Header-Content-Length: 3\r\n", 400,
         "the body has 2 bytes"},
        {"Content-Length: 2\r\nInference-Header-Content-Length: -1\r\n", 400, "expected a number"},
        {"Content-Length: 2\r\nInference-Header-Content-Length: 1x\r\n", 400, "expected a number"},
        {"Content-Length: 2\r\nContent-Encoding: gzip\r\n", 501, "'gzip' is not supported"},
        {"Content-Length: many\r\n", 400, ""},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        sx_sbuf_clear(&s);
        sx_sbuf_printf(&s, "POST " QUICK " HTTP/1.1\r\nHost: x\r\n%s\r\n{}", cases[i].headers);
        int status = ask(s.data, s.len, &r);
        if (status != cases[i].status)
            fail_msg("%s: %s", cases[i].headers, r.text.data);
        has(&r, cases[i].text);
    }
    /* 100 Continue */
    sx_sbuf_clear(&s);
    sx_sbuf_printf(&s,
                   "POST " QUICK " HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n"
                   "Content-Length: %zu\r\n\r\n",
                   strlen(QUICK_JSON));
    int fd = dial(f.port);
    give(fd, s.data, s.len);
    assert_true(receive(fd, &r));
    assert_int_equal(r.status, 100);
    give(fd, QUICK_JSON, strlen(QUICK_JSON));
    assert_true(receive(fd, &r));
    assert_int_equal(r.status, 200);
    close(fd);
    /* headers that do not end */
    sx_sbuf_clear(&s);
    sx_sbuf_puts(&s, "GET /v2 HTTP/1.1\r\nHost: x\r\n");
    for (int i = 0; i < 5000; i++)
        sx_sbuf_printf(&s, "X-%d: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n", i);
    int status = ask(s.data, s.len, &r);
    assert_true(status == 431 || status == 0 || status == 413);
    sx_sbuf_free(&s);
    sx_sbuf_free(&r.text);
}

static void test_binary_to_json(void **state)
{
    (void)state;
    struct reply r = {0};
    struct sx_sbuf s = {0};
    post(&s, "/v2/models/text/infer", "Inference-Header-Content-Length: 0\r\n", "\xff\xfe", 2);
    assert_int_equal(ask(s.data, s.len, &r), 200);
    assert_memory_equal(r.body + r.body_len - 6, "\2\0\0\0\xff\xfe", 6);
    sx_sbuf_clear(&s);
    static const char json[] =
        "{\"inputs\":[{\"name\":\"x\",\"shape\":[1,1],\"datatype\":\"BYTES\","
        "\"parameters\":{\"binary_data_size\":6}}]}";
    char headers[64], body[sizeof(json) + 5];
    memcpy(body, json, sizeof(json) - 1);
    memcpy(body + sizeof(json) - 1, "\2\0\0\0\xff\xfe", 6);
    snprintf(headers, sizeof(headers), "Inference-Header-Content-Length: %zu\r\n",
             sizeof(json) - 1);
    post(&s, "/v2/models/text/infer", headers, body, sizeof(body));
    assert_int_equal(ask(s.data, s.len, &r), 400);
    has(&r, "is not valid UTF-8");
    sx_sbuf_free(&s);
    sx_sbuf_free(&r.text);
}

/* The answer to `n` ones for `big`, in JSON unless `parameters` say otherwise. */
static int ask_ones(int fd, int n, const char *parameters, struct reply *r)
{
    struct sx_sbuf json = {0}, s = {0};
    sx_sbuf_printf(&json,
                   "{%s\"inputs\":[{\"name\":\"x\",\"shape\":[%d],\"datatype\":\"FP32\","
                   "\"data\":[1",
                   parameters, n);
    for (int i = 1; i < n; i++)
        sx_sbuf_puts(&json, ",1");
    sx_sbuf_puts(&json, "]}]}");
    post(&s, "/v2/models/big/infer", "", json.data, json.len);
    give(fd, s.data, s.len);
    assert_true(receive(fd, r));
    sx_sbuf_free(&json);
    sx_sbuf_free(&s);
    return r->status;
}

/* Large JSON answers are bounded together; what one took is there for the next. */
static void test_json_bound(void **state)
{
    (void)state;
    struct reply r = {0};
    struct sx_httpd *h;
    struct sx_httpd_config c = {.server = f.server, .max_json = 1 << 18};
    assert_int_equal(sx_httpd_create(&c, &h, NULL), SX_OK);
    int fd = dial(sx_httpd_port(h));
    for (int i = 0; i < 8; i++)
        assert_int_equal(ask_ones(fd, 20000, "", &r), 200); /* 80 KB each */
    assert_int_equal(ask_ones(fd, 90000, "", &r), 503);
    has(&r, "of JSON; ask for its outputs with \\\"binary_data\\\": true");
    assert_int_equal(ask_ones(fd, 90000, "\"parameters\":{\"binary_data_output\":true},", &r), 200);
    close(fd);
    sx_httpd_destroy(h);
    sx_sbuf_free(&r.text);
}

static struct sx_model_stats *stats_of(const char *name)
{
    struct sx_model *model;
    struct sx_model_stats *stats = malloc(sizeof(*stats));
    assert_int_equal(sx_server_find(f.server, name, strlen(name), 0, &model, NULL), SX_OK);
    sx_model_get_stats(model, stats);
    sx_model_unref(&model);
    return stats;
}

/* Until so many requests for a model wait or run. */
static void wait_inside(const char *model, uint64_t n)
{
    uint64_t inside = 0, until = sx_now() + 20 * SX_S;
    while (inside < n && sx_now() < until) {
        struct sx_model_stats *stats = stats_of(model);
        inside = stats->pending + stats->running;
        free(stats);
        ms(1);
    }
    assert_true(inside >= n);
}

#define SLOW_JSON "{\"inputs\":[{\"name\":\"x\",\"shape\":[1],\"datatype\":\"FP32\",\"data\":[1]}]}"

/* Clients that leave: the queued are cancelled, the server goes on. */
static void test_gone(void **state)
{
    (void)state;
    enum { N = 12 };
    struct sx_sbuf s = {0};
    struct reply r = {0};
    int fd[N];
    post(&s, "/v2/models/slow/infer", "", SLOW_JSON, strlen(SLOW_JSON));
    for (int i = 0; i < N; i++) {
        fd[i] = dial(f.port);
        give(fd[i], s.data, s.len);
    }
    wait_inside("slow", N);
    for (int i = 0; i < N; i++)
        close(fd[i]);
    uint64_t cancelled = 0;
    for (int i = 0; i < 200 && cancelled < N - 2; i++) {
        ms(10);
        struct sx_model_stats *stats = stats_of("slow");
        cancelled = stats->cancelled;
        free(stats);
    }
    assert_in_range(cancelled, N - 2, N); /* two units may have begun theirs */
    /* well before N / 2 runs of 300 ms are over, a new client is served */
    uint64_t start = sx_now();
    assert_int_equal(ask(s.data, s.len, &r), 200);
    assert_true(sx_now() - start < 1500 * SX_MS);
    sx_sbuf_free(&s);
    sx_sbuf_free(&r.text);
}

/* However many wait before it, a client that leaves is seen. */
static void test_gone_from_a_crowd(void **state)
{
    (void)state;
    enum { N = 1200 };
    static const char json[] =
        "{\"parameters\":{\"timeout\":1000000000},\"inputs\":[{\"name\":\"x\",\"shape\":[1],"
        "\"datatype\":\"FP32\",\"data\":[1]}]}";
    struct sx_sbuf s = {0};
    int fd[N];
    post(&s, "/v2/models/crowd/infer", "", json, strlen(json));
    for (int i = 0; i < N; i++) {
        fd[i] = dial(f.port);
        give(fd[i], s.data, s.len);
        if (i == N - 2)
            wait_inside("crowd", N - 100); /* the last comes last; some have been answered */
    }
    close(fd[N - 1]);
    uint64_t until = sx_now() + 10 * SX_S, cancelled = 0;
    while (!cancelled && sx_now() < until) {
        ms(1);
        struct sx_model_stats *stats = stats_of("crowd");
        cancelled = stats->cancelled;
        free(stats);
    }
    assert_int_equal(cancelled, 1);
    for (int i = 0; i < N - 1; i++)
        close(fd[i]);
    for (bool busy = true; busy; ms(1)) {
        struct sx_model_stats *stats = stats_of("crowd");
        busy = stats->pending + stats->running;
        free(stats);
    }
    sx_sbuf_free(&s);
}

/* A short request is answered though the client has closed its sending side. */
static void test_half_closed(void **state)
{
    (void)state;
    struct sx_sbuf s = {0};
    struct reply r = {0};
    post(&s, QUICK, "", QUICK_JSON, strlen(QUICK_JSON));
    int fd = dial(f.port);
    give(fd, s.data, s.len);
    shutdown(fd, SHUT_WR);
    assert_true(receive(fd, &r));
    assert_int_equal(r.status, 200);
    close(fd);
    /* half a request, then the end */
    fd = dial(f.port);
    give(fd, s.data, s.len / 2);
    shutdown(fd, SHUT_WR);
    assert_false(receive(fd, &r) && r.status == 200);
    close(fd);
    /* half a request, then silence: closed after the idle timeout */
    fd = dial(f.port);
    give(fd, s.data, s.len / 2);
    uint64_t start = sx_now();
    assert_false(receive(fd, &r) && r.status == 200);
    assert_true(sx_now() - start < 10 * SX_S);
    close(fd);
    sx_sbuf_free(&s);
    sx_sbuf_free(&r.text);
}

static void test_timeout(void **state)
{
    (void)state;
    struct reply r = {0};
    static const char json[] =
        "{\"parameters\":{\"timeout\":1000},\"inputs\":[{\"name\":\"x\",\"shape\":[1],"
        "\"datatype\":\"FP32\",\"data\":[1]}]}";
    struct sx_sbuf s = {0};
    post(&s, "/v2/models/slow/infer", "", SLOW_JSON, strlen(SLOW_JSON));
    int fd[2] = {dial(f.port), dial(f.port)};
    for (int i = 0; i < 2; i++)
        give(fd[i], s.data, s.len);
    wait_inside("slow", 2);
    assert_int_equal(post_json("/v2/models/slow/infer", json, &r), 503);
    has(&r, "Request timeout expired");
    has(&r, "Retry-After: ");
    for (int i = 0; i < 2; i++) {
        assert_true(receive(fd[i], &r));
        assert_int_equal(r.status, 200);
        close(fd[i]);
    }
    sx_sbuf_free(&s);
    sx_sbuf_free(&r.text);
}

/* 80 KiB of tensor for `wide`, of which the JSON says too little when it is to be found wrong. */
static void wide_request(struct sx_sbuf *s, bool wrong, const char *parameters)
{
    enum { N = 20000 };
    static char body[512 + 4 * N];
    char headers[64];
    int json = snprintf(body, 512,
                        "{%s\"inputs\":[{\"name\":\"x\",\"shape\":[%d],\"datatype\":\"FP32\","
                        "\"parameters\":{\"binary_data_size\":%d}}]}",
                        parameters, N, wrong ? 8 : 4 * N);
    memset(body + json, 0, sizeof(body) - (size_t)json);
    snprintf(headers, sizeof(headers), "Inference-Header-Content-Length: %d\r\n", json);
    sx_sbuf_clear(s);
    post(s, "/v2/models/wide/infer", headers, body, (size_t)json + 4 * N);
}

/* Under overload a request is refused by its head: its tensors are neither kept nor looked at.  One
 * with a deadline of its own is read first. */
static void test_refused_by_its_head(void **state)
{
    (void)state;
    struct reply r = {0};
    struct sx_sbuf s = {0};
    wide_request(&s, false, "");
    assert_int_equal(ask(s.data, s.len, &r), 200); /* now its time is known */
    int fd[8];
    for (int i = 0; i < 8; i++) {
        fd[i] = dial(f.port);
        give(fd[i], s.data, s.len);
    }
    struct sx_model_stats *stats;
    for (bool full = false; !full;) { /* until all have been taken or refused */
        stats = stats_of("wide");
        full = stats->pending + stats->running + stats->success - 1 + stats->rejected >= 8;
        free(stats);
    }
    wide_request(&s, true, "");
    assert_int_equal(ask(s.data, s.len, &r), 503);
    has(&r, "Request timeout expired");
    wide_request(&s, true, "\"parameters\":{\"timeout\":9000000},");
    assert_int_equal(ask(s.data, s.len, &r), 400);
    stats = stats_of("wide");
    assert_true(stats->rejected >= 1);
    free(stats);
    for (int i = 0; i < 8; i++) {
        assert_true(receive(fd[i], &r));
        assert_true(r.status == 200 || r.status == 503);
        close(fd[i]);
    }
    sx_sbuf_free(&s);
    sx_sbuf_free(&r.text);
}

static void *hammer(void *arg)
{
    struct sx_sbuf s = {0};
    struct reply r = {0};
    binary_request(&s);
    int fd = dial(f.port);
    for (int i = 0; i < 300; i++) {
        give(fd, s.data, s.len);
        if (!receive(fd, &r) || r.status != 200)
            ++*(int *)arg;
    }
    close(fd);
    sx_sbuf_free(&s);
    sx_sbuf_free(&r.text);
    return NULL;
}

static void test_many(void **state)
{
    (void)state;
    enum { N = 16 };
    pthread_t threads[N];
    int failures[N] = {0};
    for (int i = 0; i < N; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, hammer, &failures[i]), 0);
    for (int i = 0; i < N; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(failures[i], 0);
    }
}

static void test_port_in_use(void **state)
{
    (void)state;
    struct sx_httpd *h;
    struct sx_err err;
    struct sx_httpd_config c = {.server = f.server, .port = f.port};
    assert_int_equal(sx_httpd_create(&c, &h, &err), SX_IO);
    assert_non_null(strstr(err.message, "cannot listen on 127.0.0.1 port"));
    assert_non_null(strstr(err.hint, "--http-port"));
    c = (struct sx_httpd_config){.server = f.server, .address = "300.1.1.1"};
    assert_int_equal(sx_httpd_create(&c, &h, &err), SX_INVALID);
    c = (struct sx_httpd_config){.server = f.server, .address = "192.0.2.1"};
    assert_int_equal(sx_httpd_create(&c, &h, &err), SX_IO);
    assert_non_null(strstr(err.hint, "--http-address"));
}

static void test_metrics(void **state)
{
    (void)state;
    struct sx_metricsd *m;
    struct reply r = {0};
    struct sx_err err;
    assert_int_equal(sx_metricsd_create(f.server, 2, NULL, 0, &m, &err), SX_OK);
    uint16_t port = f.port;
    f.port = sx_metricsd_port(m);
    assert_int_equal(get("/metrics", &r), 200);
    has(&r, "nv_inference_request_success{model=\"quick\",version=\"1\"} ");
    has(&r, "nv_inference_request_failure{model=\"slow\",version=\"1\",reason=\"CANCELED\"} ");
    has(&r, "staronnx_request_duration_seconds_bucket{model=\"quick\",version=\"1\",le=\"+Inf\"} ");
    has(&r, "staronnx_unit_busy_seconds_total{unit=\"1\"} ");
    has(&r, "staronnx_pool_bytes ");
    assert_int_equal(get("/", &r), 404);
    f.port = port;
    sx_metricsd_destroy(m);
    sx_sbuf_free(&r.text);
}

/* What was admitted is answered, then the connection closes. Last: it stops the front. */
static void test_stop(void **state)
{
    (void)state;
    struct sx_sbuf s = {0};
    struct reply r = {0};
    post(&s, "/v2/models/slow/infer", "", SLOW_JSON, strlen(SLOW_JSON));
    int fd[3];
    for (int i = 0; i < 3; i++) {
        fd[i] = dial(f.port);
        give(fd[i], s.data, s.len);
    }
    wait_inside("slow", 3);
    sx_httpd_quiesce(f.httpd);
    assert_int_equal(sx_server_drain(f.server, sx_now() + 10 * SX_S), SX_OK);
    sx_httpd_destroy(f.httpd);
    f.httpd = NULL;
    for (int i = 0; i < 3; i++) {
        assert_true(receive(fd[i], &r));
        assert_int_equal(r.status, 200);
        has(&r, "Connection: close");
        close(fd[i]);
    }
    struct sx_httpd_config c = {.server = f.server};
    assert_int_equal(sx_httpd_create(&c, &f.httpd, NULL), SX_OK);
    f.port = sx_httpd_port(f.httpd);
    assert_int_equal(get("/v2/health/ready", &r), 400); /* drained */
    assert_int_equal(post_json(QUICK, QUICK_JSON, &r), 503);
    sx_sbuf_free(&s);
    sx_sbuf_free(&r.text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_documents),
        cmocka_unit_test(test_infer_json),
        cmocka_unit_test(test_infer_binary),
        cmocka_unit_test(test_chunked),
        cmocka_unit_test(test_recycled),
        cmocka_unit_test(test_slow_body),
        cmocka_unit_test(test_promised),
        cmocka_unit_test(test_no_memory),
        cmocka_unit_test(test_chunked_with_length),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_binary_to_json),
        cmocka_unit_test(test_json_bound),
        cmocka_unit_test(test_gone),
        cmocka_unit_test(test_gone_from_a_crowd),
        cmocka_unit_test(test_half_closed),
        cmocka_unit_test(test_timeout),
        cmocka_unit_test(test_many),
        cmocka_unit_test(test_port_in_use),
        cmocka_unit_test(test_metrics),
        cmocka_unit_test(test_refused_by_its_head),
        cmocka_unit_test(test_stop),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
