/*
 * What Lua sees of C. This text is compiled here and given to ffi.cdef as it
 * stands (without the lines that begin with #). Nothing in here calls Lua,
 * blocks or jumps. Strings into C are borrowed for the call; a weir_str out
 * points into the request and is valid until the request waits or changes
 * what was asked for: copy it at once.
 *
 * int results: 0 or more is good, WEIR_NONE says "there is none", WEIR_WAIT
 * "armed: yield, then ask for the result", below that an error whose text is
 * weir_strerror(code).
 */
typedef struct weir_str {
    const char *p;
    size_t n;
} weir_str;

typedef struct weir_req weir_req;
typedef struct weir_re weir_re;
typedef struct weir_answer weir_answer;

enum { WEIR_NONE = -100, WEIR_WAIT = -101, WEIR_AGAIN = -102 };

const char *weir_strerror(int code);

/* The request that the running coroutine belongs to; NULL in a timer. */
weir_req *weir_current(void);

/* ---- the request ---- */

enum {
    WEIR_REQ_METHOD,
    WEIR_REQ_URI,
    WEIR_REQ_RAW_PATH,
    WEIR_REQ_PATH,
    WEIR_REQ_QUERY,
    WEIR_REQ_SCHEME,
    WEIR_REQ_PROTOCOL,
    WEIR_REQ_HOST,
    WEIR_REQ_REMOTE_ADDR,
    WEIR_REQ_SERVER_ADDR,
    WEIR_REQ_SERVER_NAME,
    WEIR_REQ_FRONT_ID,
    WEIR_REQ_ID
};
/* Fills out with a text of the request (never WEIR_NONE; empty when unknown). */
void weir_req_get(const weir_req *req, int what, weir_str *out);
/* Changes METHOD or QUERY; the bytes are copied. */
void weir_req_set(weir_req *req, int what, const char *p, size_t n);

enum {
    WEIR_REQ_REMOTE_PORT,
    WEIR_REQ_SERVER_PORT,
    WEIR_REQ_IS_AUTHORIZER,
    WEIR_REQ_IS_REPEATED,
    WEIR_REQ_IS_HEAD,
    WEIR_REQ_CONTENT_LENGTH,
    WEIR_REQ_BODY_BYTES,
    WEIR_REQ_ABORTED,
    WEIR_REQ_HEAD_SENT,
    WEIR_REQ_ANSWERED,
    WEIR_REQ_STATUS,
    WEIR_REQ_SOURCE,
    WEIR_REQ_UPSTREAM_STATUS,
    WEIR_REQ_RESP_BYTES,
    WEIR_REQ_START_MS,
    WEIR_REQ_START_US,
    WEIR_REQ_UPSTREAM_START_US,
    WEIR_REQ_UPSTREAM_HEAD_US,
    WEIR_REQ_UPSTREAM_END_US,
    WEIR_REQ_DENY_STYLE
};
double weir_req_number(const weir_req *req, int what);

/* Header lists: of the request, of the response, of the upstream's response. */
enum { WEIR_HEADERS_REQUEST, WEIR_HEADERS_RESPONSE, WEIR_HEADERS_UPSTREAM };
/* The first value; WEIR_NONE when there is no such header. */
int weir_header_get(const weir_req *req, int list, const char *name, size_t n, weir_str *value);
/* The i-th field (from 0); WEIR_NONE behind the last. */
int weir_header_at(const weir_req *req, int list, int i, weir_str *name, weir_str *value);
/* Replaces, appends, removes; the bytes are copied. -2 when name or value hold what HTTP forbids.
 */
int weir_header_set(weir_req *req, int list, const char *name, size_t name_n, const char *value,
                    size_t value_n);
int weir_header_add(weir_req *req, int list, const char *name, size_t name_n, const char *value,
                    size_t value_n);
/* The value in decimal digits, without what is behind the point; below 0 it is 0. */
int weir_header_set_number(weir_req *req, int list, const char *name, size_t name_n, double value);
void weir_header_clear(weir_req *req, int list, const char *name, size_t n);

/*
 * The whole request body, or what a plugin put in its place. 0: out holds it; WEIR_WAIT: it is
 * still arriving; -3: it is larger than client_body_buffer_size; -6: the client went away.
 */
int weir_req_body(weir_req *req, weir_str *out);
/* Another body, for the upstream and for who asks from now on; copied. */
void weir_req_set_body(weir_req *req, const char *p, size_t n);

/* ---- the response ---- */

/* status 100..599 */
void weir_resp_set_status(weir_req *req, int status);
void weir_resp_set_source(weir_req *req, int source);
/* Announces the body's length; without it, it is not announced. */
void weir_resp_set_length(weir_req *req, double bytes);
/* Commits status and headers. */
void weir_resp_head(weir_req *req);
/* Sends body bytes. 0, or WEIR_WAIT when so much is queued that the caller must wait (they are
 * sent). */
int weir_resp_body(weir_req *req, const char *p, size_t n);
void weir_resp_end(weir_req *req);
/* The body broke off: the front is shown it as far as it can be. weir_resp_end follows. */
void weir_resp_break(weir_req *req);
/* head (with Content-Length), body and end in one. */
void weir_resp_all(weir_req *req, int status, const char *p, size_t n);
/* The log phase is over: the access log's line is written and the request let go. Its last call. */
void weir_req_done(weir_req *req);

/* ---- the upstream ---- */

/*
 * Right before weir_upstream_start: the Host field, and what the upstream is told of the client:
 * X-Forwarded-* (what the peer says of itself stays if it is trusted), the client's address after
 * real-ip processing, the part of the path that the route strips (or ""). The bytes are copied.
 */
void weir_upstream_describe(weir_req *req, const char *host, size_t host_n, int trusted,
                            const char *client, size_t client_n, const char *prefix,
                            size_t prefix_n);
/*
 * Sends the request to an upstream: host (name or address) and port, the
 * request target (path and query as they go on the wire), timeouts in ms.
 * retries: how often a connection may be tried again. Always WEIR_WAIT or an
 * error; after the wait, weir_upstream_result gives 0 (head received),
 * -5 timeout, -6 cannot connect or closed, -2 or -3 invalid response, -1 the
 * name has no address, -7 given up because the client left. whole_body: the request's body
 * arrives first, unless it is larger than what may be held.
 */
int weir_upstream_start(weir_req *req, const char *host, size_t host_n, int port,
                        const char *target, size_t target_n, int retries, int connect_ms,
                        int write_ms, int read_ms, int whole_body);
int weir_upstream_result(weir_req *req);
/* What the failure was, in words: valid until the request ends. */
const char *weir_upstream_reason(const weir_req *req);
/* Takes the upstream's status and headers over into the response; hop-by-hop ones stay behind. */
void weir_upstream_accept(weir_req *req);
/*
 * Commits status and headers of a response whose body follows from the upstream. Its length is
 * what the upstream said, whatever a plugin made of it, or none when a plugin wants none or
 * filtered says that the body may become another.
 */
void weir_upstream_head(weir_req *req, int filtered);
/*
 * Moves body bytes from the upstream to the client. 1: all is sent; WEIR_WAIT:
 * yield and call again; below: the upstream broke off.
 */
int weir_upstream_forward(weir_req *req);
/*
 * The next piece of the body, for body filters: 0 and a piece; 1: the end (out is
 * empty); WEIR_WAIT; below: the upstream broke off. A piece is valid until the next call.
 */
int weir_upstream_read(weir_req *req, weir_str *out);

/* ---- counters ---- */

/*
 * Windows are given as arrays: limit[i], and what[i]: 1..6 for second, minute,
 * hour, day, month, year, or minus the size in milliseconds. sliding: 0 or 1 for all.
 * used[i] is what was counted before this call (with the part of the previous
 * window that still weighs, if sliding), previous[i] all of that window, reset_ms[i] the distance
 * to the window's end.
 * admit returns 1 (admitted and charged in all) or 0 (nothing charged).
 */
int weir_counter_admit(const char *id, size_t n, int count, const int64_t *what,
                       const double *limit, int sliding, int64_t cost, double *used,
                       double *previous, int64_t *reset_ms);
void weir_counter_charge(const char *id, size_t n, int count, const int64_t *what, int sliding,
                         int64_t amount);
void weir_counter_peek(const char *id, size_t n, int count, const int64_t *what, int sliding,
                       double *used, double *previous, int64_t *reset_ms);

/*
 * Stores of counters elsewhere. open: a number for the calls below, or an error, and out says why;
 * kind and settings as stores_open of store/store.h. Store -1 is none, and never answers. admit and
 * peek: as above; WEIR_WAIT: the answer comes later; below: the store does not answer. slot: 0 to
 * 7, of the questions that this coroutine asks at once; await gives WEIR_WAIT as long as there is
 * no answer in it (yield, and call it again), then what the call would have returned. Each slot
 * must be awaited. failure: 1 and why it does not answer since its last failure, or 0.
 */
int weir_store_open(const char *kind, size_t kind_n, const char *settings, size_t n, double sync_s,
                    weir_str *out);
void weir_store_name(int store, weir_str *out);
int weir_store_failure(int store, weir_str *out);
int weir_store_admit(int store, int slot, const char *id, size_t n, int count, const int64_t *what,
                     const double *limit, int sliding, int64_t cost, double *used, double *previous,
                     int64_t *reset_ms);
int weir_store_peek(int store, int slot, const char *id, size_t n, int count, const int64_t *what,
                    int sliding, double *used, double *previous, int64_t *reset_ms);
int weir_store_await(int slot, int count, double *used, double *previous, int64_t *reset_ms);
void weir_store_charge(int store, const char *id, size_t n, int count, const int64_t *what,
                       int sliding, int64_t amount);

/* ---- time, log, configuration ---- */

double weir_now(void);          /* seconds since the epoch, with milliseconds, as of this turn */
double weir_mono_us(void);      /* read now */
int weir_sleep(double seconds); /* WEIR_WAIT */
/* Runs the timer function of number id in a coroutine of its own after delay seconds. */
void weir_timer_start(int id, double delay_s);
/* level 0 (emerg) to 7 (debug) */
void weir_log(int level, const char *p, size_t n);
int weir_log_enabled(int level);
/* The value of a key of weir.conf as text, defaults filled in; WEIR_NONE: no such key. */
int weir_conf_get(const char *key, size_t n, weir_str *out);
/* The i-th configured value of a list key; WEIR_NONE behind the last. */
int weir_conf_list(const char *key, size_t n, int i, weir_str *out);
/*
 * The i-th key, and its value as it was written, defaults filled in, references as they are; 1: the
 * value is a secret, and text is empty; WEIR_NONE behind the last.
 */
int weir_conf_key(int i, weir_str *name, weir_str *text);
/* Where the value of a key was written, such as "/etc/weir/weir.conf:12"; WEIR_NONE: nowhere. */
int weir_conf_origin(const char *key, size_t n, weir_str *out);
/*
 * The i-th key vault_<type>_<field>: "<type>_<field>", its value, and where it was written;
 * WEIR_NONE behind the last.
 */
int weir_conf_vault(int i, weir_str *name, weir_str *text, weir_str *origin);
/* The declarative configuration: the text that the master read; WEIR_NONE if there is none. */
int weir_conf_declarative(weir_str *path, weir_str *text);
/* The number of this worker, from 1; 0 elsewhere. */
int weir_worker_id(void);
/* Random bytes of the operating system; 0. */
int weir_random(char *out, size_t n);

/* ---- regular expressions ---- */

/* NULL, and out says why; compiled with JIT. options: "i", "x", "s", "m", "a" (anchored), "u". */
weir_re *weir_re_new(const char *pattern, size_t n, const char *options, weir_str *out);
void weir_re_free(weir_re *re);
/*
 * Matches from offset on. The number of pairs written to ovector (start and
 * end of each group, -1 when it did not take part; the whole first), WEIR_NONE, or an error.
 */
int weir_re_exec(weir_re *re, const char *p, size_t n, size_t offset, int32_t *ovector, int pairs);
int weir_re_groups(const weir_re *re);
/* The i-th named group: its number, and its name; WEIR_NONE behind the last. */
int weir_re_name(const weir_re *re, int i, weir_str *name);

/* ---- digests, files ---- */

/* The 20 bytes of SHA-1 (for UUIDs of version 5). */
void weir_sha1(const char *p, size_t n, unsigned char *out);
/*
 * The names in a directory, each followed by NUL, those that begin with a dot left out; valid
 * until the next call. WEIR_NONE: there is no such directory. Blocks: not for requests.
 */
int weir_dir_names(const char *path, weir_str *names);
/*
 * The text of a file with Lua in it, as it was when this generation was checked; valid until the
 * next call. WEIR_NONE: there is none. Another negative code: text says why it cannot be read.
 */
int weir_source(const char *path, size_t n, weir_str *text);

/* ---- digests and codings of bytes ---- */

/* 32 bytes. */
void weir_sha256(const char *p, size_t n, unsigned char *out);
/* 32 bytes; 0, or an error: the key is too long. */
int weir_hmac_sha256(const char *key, size_t key_n, const char *p, size_t n, unsigned char *out);
/* 1 or 0, in a time that does not tell where they differ. */
int weir_equal(const char *a, const char *b, size_t n);
/* The number of bytes written, and a NUL behind them: out has room for 4 for every 3, and 1. */
int weir_base64(const char *p, size_t n, unsigned char *out);
/* The number of bytes written, or an error: it is not base64 with its padding. out: n bytes. */
int weir_unbase64(const char *p, size_t n, unsigned char *out);

/* ---- secrets (base/secret.h), for lua/weir/secret.lua alone ---- */

/* The number of the secret of a name such as {vault://...}; ERR_BOUND (-3): too many. */
int weir_secret_open(const char *name, size_t n);
/* 0 and its value, to be copied at once, or WEIR_NONE and why there is none. */
int weir_secret_get(int number, weir_str *out);
/* Why its last look-up failed; empty if it did not. */
void weir_secret_why(int number, weir_str *out);
/* How a look-up went; put: 1 if the value is another than before, -3 if it is too long. */
int weir_secret_put(int number, const char *p, size_t n, double ttl_s);
void weir_secret_fail(int number, const char *why, size_t n, int drop);
/*
 * Values that are put from now on are there for other workers that share the same key, of 32 bytes,
 * and outlive this one. take: the last of them becomes the value, as by put, if it was found after
 * that time and is one of the kind that is wanted; else WEIR_NONE. found gets when it was, and its
 * ttl, 0 for none. Times are weir_mono_us's, in seconds.
 */
enum { WEIR_OF_ANYBODY, WEIR_OF_SIBLINGS /* same generation */, WEIR_OTHER_OF_SIBLINGS };
void weir_secret_share(int number, const char *key);
int weir_secret_take(int number, double after_s, int kind, double found[2]);
/* WEIR_WAIT: until the next look-up has ended. */
int weir_secret_wait(int number);
/* What was to be looked up before the first request is: the worker may accept. */
void weir_secrets_ready(void);

/* ---- signatures ---- */

enum { WEIR_SIGNATURE_MAX = 1024 };
/*
 * RSASSA-PKCS1-v1_5 with SHA-256, with the key in PEM (PKCS#8 or PKCS#1), into out, which has
 * WEIR_SIGNATURE_MAX bytes: their number, or an error, and why says what is wrong with the key.
 */
int weir_sign_rs256(const char *pem, size_t pem_n, const char *p, size_t n, unsigned char *out,
                    weir_str *why);

/* ---- files that others change ---- */

/*
 * Watches what a path leads to: a number, or an error, and why says what keeps it from being
 * watched. next: the number of one that changed, or WEIR_WAIT (yield, and call it again); only one
 * coroutine may wait so. It is not told of again until it is watched again, which comes before it
 * is read; where that fails, it is not watched any longer.
 */
int weir_watch_open(const char *path, size_t n, weir_str *why);
int weir_watch_next(void);
int weir_watch_again(int number, weir_str *why);
/*
 * The bytes of a regular file below a directory; neither name may hold NUL. text is valid until
 * they are wiped, or says why it cannot be read. Blocks.
 */
int weir_file_read(const char *dir, const char *path, size_t max_bytes, weir_str *text);
void weir_file_wipe(void);

/* ---- calling out over HTTP ---- */

typedef struct weir_callout weir_callout;

/* In the order of enum callout_text and enum callout_number of peer/callout.h. */
enum {
    WEIR_CALLOUT_URL,
    WEIR_CALLOUT_METHOD,
    WEIR_CALLOUT_CA_FILE,
    WEIR_CALLOUT_CERT_FILE,
    WEIR_CALLOUT_KEY_FILE,
    WEIR_CALLOUT_SERVER_NAME,
    WEIR_CALLOUT_UNIX_SOCKET,
    WEIR_CALLOUT_PROXY
};
enum {
    WEIR_CALLOUT_TIMEOUT_MS,
    WEIR_CALLOUT_CONNECT_TIMEOUT_MS,
    WEIR_CALLOUT_MAX_BYTES,
    WEIR_CALLOUT_SSL_VERIFY
};
/*
 * An exchange of the running coroutine, which frees it. NULL: nothing may wait here. What is set is
 * copied; -2: cannot stand there, -3: too long, too many, out of range.
 */
weir_callout *weir_callout_new(void);
int weir_callout_text(weir_callout *c, int what, const char *p, size_t n);
int weir_callout_number(weir_callout *c, int what, double value);
int weir_callout_header(weir_callout *c, const char *name, size_t name_n, const char *value,
                        size_t value_n);
int weir_callout_body(weir_callout *c, const char *p, size_t n);
/* WEIR_WAIT, or below: weir_callout_result says why not. */
int weir_callout_start(weir_callout *c);
/* The status, and the body in out; or below zero, and out says why. Valid until it is freed. */
int weir_callout_result(const weir_callout *c, weir_str *out);
int weir_callout_header_at(const weir_callout *c, int i, weir_str *name, weir_str *value);
void weir_callout_free(weir_callout *c);

/* ---- single questions to Redis and PostgreSQL ---- */

/*
 * Each on a connection of its own, with settings as weir_store_open takes them, or those of
 * weir.conf's pg_*. NULL: the caller is no coroutine that can wait. get: WEIR_WAIT (yield, and
 * call it again), then 0 and the text (one string, or the first column of the first row),
 * WEIR_NONE, or an error, and out says why. The text is valid until free.
 */
weir_answer *weir_redis_ask(const char *settings, size_t n, int argc, const char *const *argv,
                            const size_t *lens);
weir_answer *weir_pg_ask(const char *settings, size_t n, const char *sql, size_t sql_n,
                         const char *param, size_t param_n);
int weir_answer_get(weir_answer *answer, weir_str *out);
void weir_answer_free(weir_answer *answer);
