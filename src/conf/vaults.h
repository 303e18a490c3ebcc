/*
 * The keys vault_<type>_<field>, which configure what {vault://<type>/...}
 * stands for. Which types and fields there are is known to those who load the
 * vaults, who judge names and values; here is only what was written.
 */
#ifndef WEIR_CONF_VAULTS_H
#define WEIR_CONF_VAULTS_H

#include "conf/keys.h"

/* Whether a key is one of this family. */
bool vaults_is_key(struct str key);

/* Takes such a key of weir.conf; twice is an error. Copies value; origin must live as long as c. */
int vaults_add(struct conf *c, const char *origin, struct str key, struct str value,
               struct err *e) MUST_CHECK;

/* Those of the environment, such as WEIR_VAULT_ENV_PREFIX, go before what is there. */
int vaults_add_environment(struct conf *c, struct err *e) MUST_CHECK;

#endif
