// Ctrl-C, counted.
#pragma once

namespace holdfast::cli {

// From here on SIGINT and SIGTERM end nothing by themselves.
void CountInterrupts();

// They end the program again.
void StopCountingInterrupts();

// How often one has come.
int Interrupts();

}  // namespace holdfast::cli
