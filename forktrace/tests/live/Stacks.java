/** Waits for its input in a method that is compiled before it is called. */
class Stacks {
    static int waitForInput() throws java.io.IOException {
        return System.in.read();
    }

    static int passOn(int depth) throws java.io.IOException {
        return depth > 0 ? passOn(depth - 1) : waitForInput();
    }

    public static void main(String[] arguments) throws java.io.IOException {
        while (passOn(3) >= 0) {}
    }
}
