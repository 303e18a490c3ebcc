# WEIR_ADD_FLAG(VARIABLE, FLAG)
# Appends FLAG to VARIABLE if the compiler takes it without a complaint, and
# the linker too. -Werror makes clang refuse what it would only warn about.
AC_DEFUN([WEIR_ADD_FLAG], [
  AS_VAR_PUSHDEF([cache], [weir_cv_flag_$2])
  AC_CACHE_CHECK([whether $CC takes $2], [cache], [
    weir_saved_cflags=$CFLAGS
    CFLAGS="$CFLAGS -Werror $2"
    AC_LINK_IFELSE([AC_LANG_PROGRAM([[#include <string.h>]], [])],
      [AS_VAR_SET([cache], [yes])], [AS_VAR_SET([cache], [no])])
    CFLAGS=$weir_saved_cflags
  ])
  AS_VAR_IF([cache], [yes], [AS_VAR_APPEND([$1], [" $2"])])
  AS_VAR_POPDEF([cache])
])

# WEIR_ADD_FLAGS(VARIABLE, FLAGS): each of them by itself.
AC_DEFUN([WEIR_ADD_FLAGS], [m4_foreach_w([flag], [$2], [WEIR_ADD_FLAG([$1], m4_quote(flag))])])

# WEIR_LUA_MODULE(NAME, PACKAGE)
# Stops unless the LuaJIT on this machine can load the module.
AC_DEFUN([WEIR_LUA_MODULE], [
  AC_MSG_CHECKING([for the Lua module $1])
  AS_IF([test -z "$LUAJIT"], [AC_MSG_RESULT([not checked, no luajit program])],
    ["$LUAJIT" -e "require '$1'" >&AS_MESSAGE_LOG_FD 2>&1], [AC_MSG_RESULT([yes])],
    [AC_MSG_RESULT([no])
     AC_MSG_ERROR([LuaJIT cannot load '$1' (Debian: $2)])])
])
