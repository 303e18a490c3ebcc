/*
 * The commands of the program weir.
 */
#ifndef WEIR_SRV_COMMAND_H
#define WEIR_SRV_COMMAND_H

/* Runs the command that argv names; the exit status: 0 good, 1 failed, 2 wrong usage. */
int command_main(int argc, char **argv);

#endif
