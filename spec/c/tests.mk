# The C specs, one a line, sorted; each is a program of its own.
WEIR_C_SPECS = \
	spec/c/conf/test_parse.c \
	spec/c/peer/test_http.c
