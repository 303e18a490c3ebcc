/*
 * See pg_params.h. Everything that libpq would take from elsewhere and that
 * could change whom it talks to or how (GSSAPI, a root certificate in a home
 * directory) is set here.
 */
#include "peer/pg_params.h"
#include "base/secret.h"
#include <ctype.h>
#include <inttypes.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

const char PG_SESSION_SQL[] =
    "SELECT set_config('statement_timeout', $1, false), set_config('synchronous_commit', $2, "
    "false),"
    " set_config('default_transaction_isolation', 'read committed', false),"
    " set_config('jit', 'off', false),"
    " CASE WHEN $3 <> '' THEN set_config('search_path', quote_ident($3), false) END";

static bool is_set(const char *text)
{
    return text && *text;
}

void pg_params_add(struct pg_params *p, const char *keyword, const char *value)
{
    must(p->n + 1 < PG_KEYWORDS_MAX);
    p->keywords[p->n] = keyword;
    p->values[p->n++] = value;
    p->keywords[p->n] = p->values[p->n] = NULL;
}

/* libpq knows the word "system" from version 16 on only. */
static const char *system_ca_file(void)
{
    static const char *const PLACES[] = { "/etc/ssl/certs/ca-certificates.crt",
                                          "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem" };
    const char *file = getenv(X509_get_default_cert_file_env());

    if (is_set(file))
        return file;
    if (PQlibVersion() >= 160000)
        return "system";
    for (size_t i = 0; i < ARRAY_LEN(PLACES); i++)
        if (access(PLACES[i], R_OK) == 0)
            return PLACES[i];
    return X509_get_default_cert_file();
}

static void add_tls(struct pg_params *p, const struct pg_settings *s)
{
    bool named = is_set(s->ca_file) && strcmp(s->ca_file, "system") != 0;

    if (!s->ssl || s->host[0] == '/') {
        pg_params_add(p, "sslmode", "disable");
    } else if (!s->ssl_verify) {
        pg_params_add(p, "sslmode", "require");
        /* with a file there, libpq would verify by it */
        pg_params_add(p, "sslrootcert", "/nonexistent");
    } else {
        pg_params_add(p, "sslmode", "verify-full");
        pg_params_add(p, "sslrootcert", named ? s->ca_file : system_ca_file());
    }
    /* what libpq would look for at home, which is root's where root has started weir */
    pg_params_add(p, "sslcert", "/nonexistent");
    pg_params_add(p, "sslcrl", "/nonexistent");
}

static int add_password(struct pg_params *p, const struct secret *password, struct err *e)
{
    if (!password)
        return 0;
    if (!secret_value(password).p)
        return err_set(e, ERR_CONFIG, "no password: %s: %s", secret_name(password),
                       secret_why(password));
    pg_params_add(p, "password", secret_value(password).p);
    return 0;
}

int pg_params_fill(struct pg_params *p, const struct pg_settings *s, const char *hostaddr,
                   struct err *e)
{
    p->n = 0;
    snprintf(p->port, sizeof p->port, "%u", s->port);
    pg_params_add(p, "host", s->host);
    if (hostaddr)
        pg_params_add(p, "hostaddr", hostaddr);
    pg_params_add(p, "port", p->port);
    pg_params_add(p, "user", s->user);
    pg_params_add(p, "dbname", s->database);
    add_tls(p, s);
    pg_params_add(p, "gssencmode", "disable"); /* it would wait for a name server */
    pg_params_add(p, "application_name", "weir");
    pg_params_add(p, "client_encoding", "UTF8");
    return add_password(p, s->password, e);
}

void pg_session_fill(struct pg_session *session, const struct pg_settings *s)
{
    /* before ours, which costs the connection */
    int64_t ms = s->timeout_ms - (s->timeout_ms + 7) / 8;

    snprintf(session->timeout, sizeof session->timeout, "%" PRId64, ms > 0 ? ms : 1);
    session->params[0] = session->timeout;
    session->params[1] = s->synchronous_commit ? "on" : "off";
    session->params[2] = is_set(s->schema) ? s->schema : "";
}

const char *pg_name(const struct pg_settings *s, char to[PG_NAME_BYTES])
{
    snprintf(to, PG_NAME_BYTES, "postgres %s:%u/%s", s->host, s->port, s->database);
    return to;
}

const char *pg_one_line(const char *text, char *to, size_t n)
{
    size_t at = 0;

    for (; *text && at + 1 < n; text++) {
        if (!isspace((unsigned char)*text))
            to[at++] = *text;
        else if (at > 0 && to[at - 1] != ' ')
            to[at++] = ' ';
    }
    while (at > 0 && to[at - 1] == ' ')
        at--;
    to[at] = '\0';
    return to;
}
