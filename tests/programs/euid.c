/* Shows: whether a set-user-ID program got its rights. Ends with 10 if it runs as root, else with 11. */
#include <unistd.h>

int main(void) { return geteuid() == 0 ? 10 : 11; }
