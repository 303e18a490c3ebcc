/*
 * See redis_login.h. A user without a password logs nobody in, so only the
 * password decides whether there is an AUTH.
 */
#include "peer/redis_login.h"
#include "base/mem.h"
#include "peer/redis_format.h"
#include <stdio.h>

#define OTHER_BYTES 256 /* of a greeting, without the secrets */

static bool is_asked(const struct redis_login *login)
{
    return login->watches[0].asked || login->watches[1].asked;
}

static void on_news(struct secret_watch *w, enum secret_news news)
{
    struct redis_login_watch *watch = CONTAINER_OF(w, struct redis_login_watch, watch);
    struct redis_login *login = watch->login;

    if (watch->asked) {
        watch->asked = false;
        if (!is_asked(login))
            login->on_told(login);
    } else if (news == SECRET_CHANGED && !is_asked(login)) {
        login->on_changed(login);
    }
}

static void watch_it(struct redis_login *login, struct redis_login_watch *watch, struct secret *s)
{
    watch->login = login;
    watch->watch.on_news = on_news;
    if (s && *secret_name(s))
        secret_watch(&watch->watch, s);
}

void redis_login_init(struct redis_login *login, const struct redis_settings *s,
                      enum redis_link_kind kind)
{
    bool sentinel = kind == REDIS_LINK_SENTINEL;

    login->password = sentinel ? s->sentinel_password : s->password;
    login->username = sentinel ? s->sentinel_username : s->username;
    if (!login->password)
        login->username = NULL;
    watch_it(login, &login->watches[0], login->password);
    watch_it(login, &login->watches[1], login->username);
}

void redis_login_fini(struct redis_login *login)
{
    secret_unwatch(&login->watches[0].watch);
    secret_unwatch(&login->watches[1].watch);
}

static int check(const struct secret *s, const char *what, struct err *e)
{
    if (!s || secret_value(s).p)
        return 0;
    return err_set(e, ERR_CONFIG, "no %s: %s: %s", what, secret_name(s), secret_why(s));
}

int redis_login_check(const struct redis_login *login, struct err *e)
{
    int rc = check(login->password, "password", e);

    return rc == 0 ? check(login->username, "username", e) : rc;
}

static unsigned versions(const struct redis_login *login)
{
    return (login->password ? secret_version(login->password) : 0) +
           (login->username ? secret_version(login->username) : 0);
}

/*
 * Before Redis 6 a refused AUTH takes the rights of the connection away. These servers know no
 * users, and refuse an AUTH with one without looking at the password.
 */
void redis_login_put(struct redis_login *login, struct buf *out, bool again)
{
    struct str user = login->username ? secret_value(login->username) : STR("default");
    struct str password = secret_value(login->password);
    const char *argv[3] = { "AUTH" };
    size_t lens[3] = { 4 };
    int argc = 1;

    if (login->username || again) {
        argv[argc] = user.p;
        lens[argc++] = user.n;
    }
    argv[argc] = password.p;
    lens[argc++] = password.n;
    /* all at once: a buffer that grows leaves its bytes behind */
    must(buf_reserve(out, user.n + password.n + OTHER_BYTES));
    must(redis_format(out, argc, argv, lens) == 0);
    login->versions = versions(login);
}

bool redis_login_is_outdated(const struct redis_login *login)
{
    return login->versions != versions(login);
}

bool redis_login_ask(struct redis_login *login)
{
    login->watches[0].asked = login->password && secret_ask(login->password);
    login->watches[1].asked = login->username && secret_ask(login->username);
    return is_asked(login);
}

void redis_login_forget(struct redis_login *login)
{
    login->watches[0].asked = login->watches[1].asked = false;
}

void redis_login_why(const struct redis_login *login, char *to, size_t n)
{
    const struct secret *s = login->password;

    if (!*secret_why(s) && login->username && (*secret_why(login->username) || !*secret_name(s)))
        s = login->username;
    if (*secret_why(s))
        snprintf(to, n, "; %s: %s", secret_name(s), secret_why(s));
    else
        snprintf(to, n, "; %s has no other value", secret_name(s));
}
