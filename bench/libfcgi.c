/*
 * libfcgi's own accept loop, which does nothing but answer the bytes of a file:
 * what most FastCGI applications are built on.
 */
#include <fcgiapp.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    static char answer[16384];
    FCGX_Request request;
    size_t n;
    FILE *f;
    int fd;

    if (argc != 3) {
        fprintf(stderr, "usage: libfcgi SOCKET FILE\n");
        return 2;
    }
    f = fopen(argv[2], "rb");
    if (!f) {
        perror(argv[2]);
        return 1;
    }
    n = fread(answer, 1, sizeof answer, f);
    fclose(f);
    FCGX_Init();
    fd = FCGX_OpenSocket(argv[1], 4096);
    if (fd < 0 || FCGX_InitRequest(&request, fd, 0) != 0)
        return 1;
    while (FCGX_Accept_r(&request) == 0) {
        FCGX_PutStr(answer, (int)n, request.out);
        FCGX_Finish_r(&request);
    }
    return 0;
}
