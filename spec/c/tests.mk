# The C specs, one a line, sorted; each is a program of its own.
WEIR_C_SPECS = \
	spec/c/base/test_calendar.c \
	spec/c/base/test_err_log.c \
	spec/c/base/test_mem.c \
	spec/c/base/test_str.c \
	spec/c/conf/test_parse.c \
	spec/c/conf/test_snapshot.c \
	spec/c/ev/test_loop.c \
	spec/c/lua/test_exchange.c \
	spec/c/lua/test_forwarded.c \
	spec/c/peer/test_errands.c \
	spec/c/peer/test_http.c \
	spec/c/peer/test_http_bodies.c \
	spec/c/peer/test_http_nginx.c \
	spec/c/peer/test_redis.c \
	spec/c/peer/test_redis_link.c \
	spec/c/peer/test_redis_slot.c \
	spec/c/peer/test_redis_tls.c \
	spec/c/peer/test_resolve.c \
	spec/c/shm/test_counter.c \
	spec/c/shm/test_counter_processes.c \
	spec/c/shm/test_lock.c \
	spec/c/shm/test_region.c \
	spec/c/shm/test_siphash.c \
	spec/c/shm/test_stats.c \
	spec/c/srv/test_listen.c \
	spec/c/srv/test_pidfile.c \
	spec/c/srv/test_watchdog.c \
	spec/c/store/test_channel.c \
	spec/c/store/test_share.c \
	spec/c/store/test_sqlite.c \
	spec/c/store/test_sqlite_faults.c \
	spec/c/wire/test_cgi.c \
	spec/c/wire/test_fcgi.c \
	spec/c/wire/test_headers.c \
	spec/c/wire/test_http1.c \
	spec/c/wire/test_uri.c
