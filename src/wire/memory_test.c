/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * memory_test.c - requests are read and answered, and documents written, while memory is short.
 */
#include "base/memory_test.h"

#include <string.h>

#include "wire/v2.h"

static const struct sx_port inputs[] = {{"a", SX_FP32, 2, {-1, 3}, false},
                                        {"s", SX_BYTES, 1, {-1}, true}};
static const struct sx_port outputs[] = {{"y", SX_FP32, 2, {-1, 3}, false},
                                         {"z", SX_BYTES, 1, {-1}, false}};
static const struct sx_v2_model model = {"m", 3, inputs, outputs, 2, 2, true};

static const char body[] =
    "{\"id\":\"one\",\"parameters\":{\"timeout\":5000,\"priority\":2},\"inputs\":["
    "{\"name\":\"a\",\"shape\":[2,3],\"datatype\":\"FP32\",\"data\":[[1,2,3],[4,5,6.5]]},"
    "{\"name\":\"s\",\"shape\":[2],\"datatype\":\"BYTES\",\"data\":[\"un\u00e9\",\"two\"]}],"
    "\"outputs\":[{\"name\":\"y\",\"parameters\":{\"binary_data\":true}},{\"name\":\"z\"}]}";

static enum sx_rc answer_request(void)
{
    struct sx_err err = {0};
    struct sx_pool *pool = NULL;
    struct sx_v2_call call = {0};
    struct sx_tensor in[2] = {{0}};
    enum sx_rc rc = sx_pool_create(&pool);
    if (rc)
        return rc;
    struct sx_buffer *buffer = sx_pool_get(pool, sizeof body);
    if (!buffer) {
        sx_pool_destroy(pool);
        return SX_NO_MEMORY;
    }
    memcpy(buffer->data, body, sizeof body);
    const struct sx_v2_body b = {buffer, (const char *)buffer->data, sizeof body - 1, -1};
    rc = sx_v2_read_infer(&call, &model, pool, &b, in, &err);
    if (!rc) /* the inputs are the answer */
        rc = sx_v2_write_infer(&call, &model, in, &err);
    for (int i = 0; i < 2; i++)
        sx_tensor_unref(&in[i]);
    sx_buffer_unref(&buffer);
    sx_v2_call_fini(&call);
    sx_pool_destroy(pool);
    return rc;
}

static enum sx_rc put_documents(void)
{
    static const struct sx_model_stats stats = {.n_batches = 1};
    static const struct sx_config config = {.name = "m", .weight = 2, .dynamic_batching = true};
    static const int64_t versions[] = {1, 3};
    static const struct sx_err err = {SX_INVALID, "wrong", "mend it"};
    struct sx_sbuf s[5] = {{0}};
    enum sx_rc rc = SX_OK;
    sx_v2_put_stats(&s[0], "m", 3, &stats);
    sx_v2_put_config(&s[1], &config);
    sx_v2_put_model(&s[2], &model, versions, 2);
    sx_v2_put_server(&s[3]);
    sx_v2_put_error(&s[4], &err);
    for (int i = 0; i < 5; i++) {
        rc = s[i].failed ? SX_NO_MEMORY : rc;
        sx_sbuf_free(&s[i]);
    }
    return rc;
}

int main(void)
{
    const struct CMUnitTest tests[] = {SWEEP(answer_request), SWEEP(put_documents)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
