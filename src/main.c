/*
 * The program weir; see srv/command.h.
 */
#include "srv/command.h"

int main(int argc, char **argv)
{
    return command_main(argc, argv);
}
