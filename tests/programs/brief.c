/* Shows: a program that ends at once. It calls work once. */
#include "work.h"

int main(void)
{
    return work(1, 2) == expect_work(1, 2) ? 7 : 1;
}
