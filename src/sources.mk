# The C files of weir but for main.c, one a line, sorted.
WEIR_SOURCES = \
	src/base/calendar.c \
	src/base/clock.c \
	src/base/err.c \
	src/base/log.c \
	src/base/mem.c \
	src/base/str.c \
	src/conf/address.c \
	src/conf/check.c \
	src/conf/file.c \
	src/conf/keys.c \
	src/conf/parse.c \
	src/ev/loop.c \
	src/ev/op.c \
	src/lua/ffi_crypto.c \
	src/lua/ffi_dir.c \
	src/lua/ffi_re.c \
	src/shm/counter.c \
	src/shm/lock.c \
	src/shm/owner.c \
	src/shm/region.c \
	src/shm/siphash.c \
	src/shm/stats.c \
	src/srv/identity.c \
	src/srv/listen.c \
	src/srv/notify.c \
	src/srv/pidfile.c \
	src/srv/shared.c \
	src/srv/state.c \
	src/wire/cgi.c \
	src/wire/cgi_head.c \
	src/wire/fcgi.c \
	src/wire/headers.c \
	src/wire/hop.c \
	src/wire/http1.c \
	src/wire/http1_body.c \
	src/wire/uri.c
