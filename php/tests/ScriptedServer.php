<?php

declare(strict_types=1);

namespace Ws2Api\Tests;

/** A process that answers request after request with the bytes that it was given, whatever was asked, and notes what was. */
final class ScriptedServer
{
    /** At the end of an answer: the connection is closed then. */
    public const CLOSE = '<close>';

    /** @param resource $process */
    private function __construct(
        private $process,
        public readonly string $host,
        public readonly string $url,
        private readonly string $file,
    ) {
    }

    /** @param list<string> $answers */
    public static function start(array $answers): self
    {
        $port = self::freePort();
        $file = tempnam(sys_get_temp_dir(), 'ws2api-');
        file_put_contents($file, json_encode($answers));
        $command = [PHP_BINARY, __FILE__, "127.0.0.1:$port", $file];
        $process = proc_open($command, [1 => ['pipe', 'w']], $pipes);
        fgets($pipes[1]);
        return new self($process, "127.0.0.1:$port", "http://127.0.0.1:$port", $file);
    }

    public static function freePort(): int
    {
        $socket = stream_socket_server('tcp://127.0.0.1:0');
        return (int) substr(strrchr(stream_socket_get_name($socket, false), ':'), 1);
    }

    public function __destruct()
    {
        proc_terminate($this->process, 9);
        proc_close($this->process);
        @unlink($this->file);
    }

    /**
     * What was asked, once so many requests have been answered and noted.
     *
     * @return list<array{connection: int, text: string}>
     */
    public function requests(int $count): array
    {
        $deadline = microtime(true) + 30;
        while (count(file($this->file)) < $count && microtime(true) < $deadline) {
            usleep(1000);
        }
        return array_map(static fn (string $line): array => json_decode($line, true), file($this->file));
    }

    /** @param list<string> $answers */
    public static function run(string $address, string $file, array $answers): void
    {
        file_put_contents($file, '');
        $listener = stream_socket_server("tcp://$address");
        echo "ready\n";
        $count = 0;
        while ($connection = stream_socket_accept($listener, 60)) {
            ++$count;
            while (($text = self::read($connection)) !== null) {
                $answer = array_shift($answers) ?? '';
                $closes = str_ends_with($answer, self::CLOSE);
                fwrite($connection, $closes ? substr($answer, 0, -strlen(self::CLOSE)) : $answer);
                if ($closes) {
                    fclose($connection);
                }
                file_put_contents($file, json_encode(['connection' => $count, 'text' => $text]) . "\n", FILE_APPEND);
                if ($closes) {
                    break;
                }
            }
        }
    }

    /** @param resource $connection */
    private static function read($connection): ?string
    {
        $text = '';
        do {
            $piece = fread($connection, 65536);
            if ($piece === '' || $piece === false) {
                return null;
            }
            $text .= $piece;
            $end = strpos($text, "\r\n\r\n");
        } while ($end === false || strlen($text) < $end + 4 + self::length(substr($text, 0, $end)));
        return $text;
    }

    private static function length(string $head): int
    {
        return preg_match('/^Content-Length: (\d+)/m', $head, $match) ? (int) $match[1] : 0;
    }
}

if (isset($argv[2]) && realpath($argv[0]) === __FILE__) {
    ScriptedServer::run($argv[1], $argv[2], json_decode(file_get_contents($argv[2]), true));
}
