/*
 * See identity.h. Names are resolved in the master only: a lookup may read
 * files and wait.
 */
#define _GNU_SOURCE /* setresuid, setresgid */
#include "srv/identity.h"
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

static int find_user(const char *name, struct identity *out, struct err *e)
{
    const struct passwd *pw = getpwnam(name);

    if (!pw)
        return err_set(e, ERR_CONFIG, "there is no user \"%s\": create it, or name another one",
                       name);
    out->uid = pw->pw_uid;
    out->gid = pw->pw_gid;
    snprintf(out->name, sizeof out->name, "%s", name);
    return 0;
}

static int find_group(const char *name, struct identity *out, struct err *e)
{
    const struct group *gr = getgrnam(name);

    if (!gr)
        return err_set(e, ERR_CONFIG, "there is no group \"%s\": create it, or name another one",
                       name);
    out->gid = gr->gr_gid;
    return 0;
}

int identity_from(const char *text, struct identity *out, struct err *e)
{
    size_t n = strcspn(text, " \t:");
    const char *group = text + n + strspn(text + n, " \t:");
    char user[sizeof out->name];
    int rc;

    memset(out, 0, sizeof *out);
    if (!*text)
        return 0;
    if (n == 0 || n >= sizeof user)
        return err_set(e, ERR_CONFIG, "expected a user's name, got \"%.80s\"", text);
    memcpy(user, text, n);
    user[n] = '\0';
    rc = find_user(user, out, e);
    if (rc == 0 && *group)
        rc = find_group(group, out, e);
    out->set = rc == 0;
    return rc;
}

int identity_of_workers(const struct conf *conf, struct identity *out, struct err *e)
{
    struct err reason;

    memset(out, 0, sizeof *out);
    if (geteuid() != 0)
        return 0;
    if (identity_from(conf->user, out, &reason) != 0)
        return conf_refuse(conf, CONF_KEY_user, e, "%s", reason.text);
    return 0;
}

int identity_assume(const struct identity *id, pid_t parent, struct err *e)
{
    if (id->set) {
        if (initgroups(id->name, id->gid) == -1 || setresgid(id->gid, id->gid, id->gid) == -1 ||
            setresuid(id->uid, id->uid, id->uid) == -1)
            return err_set_errno(e, "cannot become the user %s", id->name);
        must(id->uid == 0 || setuid(0) == -1);
    }
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == -1)
        return err_set_errno(e, "cannot forbid new privileges");
    /*
     * After the change, which clears it. Nor is the process dumpable any more: other programs
     * of the same user, such as an application server, must not read its memory.
     */
    if (parent == 0)
        return 0;
    if (prctl(PR_SET_PDEATHSIG, SIGQUIT, 0, 0, 0) == -1)
        return err_set_errno(e, "prctl");
    if (getppid() != parent)
        _exit(0);
    return 0;
}

/* Only a regular file with one name is given away: root must not be led by a link. */
static int own_log(const struct identity *id, const char *path, struct err *e)
{
    struct stat st;
    int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0640);
    int rc = 0;

    if (fd == -1 && (errno == ELOOP || errno == ENXIO))
        return 0; /* a link, such as /dev/stdout, or a pipe: whoever made it chose its owner */
    if (fd == -1)
        return err_set_errno(e, "cannot open %s", path);
    if (id->set && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_nlink == 1 &&
        st.st_uid != id->uid && fchown(fd, id->uid, id->gid) == -1)
        rc = err_set_errno(e, "cannot give %s to the user %s", path, id->name);
    close(fd);
    return rc;
}

int identity_own_logs(const struct identity *id, const struct conf *conf, struct err *e)
{
    struct err reason;

    if (strcmp(conf->error_log, "stderr") != 0 && own_log(id, conf->error_log, &reason) != 0)
        return conf_refuse(conf, CONF_KEY_error_log, e, "%s", reason.text);
    if (strcmp(conf->access_log, "off") != 0 && own_log(id, conf->access_log, &reason) != 0)
        return conf_refuse(conf, CONF_KEY_access_log, e, "%s", reason.text);
    return 0;
}
