<?php

declare(strict_types=1);

namespace Ws2Api;

/**
 * A kept HTTP/1.1 connection to the ingress; made anew when it has ended. One request at a time.
 *
 * A request is never repeated once a byte of it was written: what is kept is looked at first, and one that the other side has
 * closed is not used.
 */
final class Connection implements Transport
{
    private const ANSWER_MAX = 16 * 1024 * 1024;

    private readonly string $address;
    private readonly string $host;
    private readonly string $prefix;
    /** @var resource|null */
    private $stream = null;
    private string $received = '';

    /** @param string $url `http://host:port`, `https://…` where a proxy is between; a path goes before every path */
    public function __construct(string $url, private readonly int $connectTimeout = 5)
    {
        $parts = parse_url($url);
        if (!isset($parts['host']) || !in_array($parts['scheme'] ?? '', ['http', 'https'], true)) {
            throw new \InvalidArgumentException("$url is not http://host:port");
        }
        $isTls = $parts['scheme'] === 'https';
        $port = $parts['port'] ?? ($isTls ? 443 : 80);
        $this->address = ($isTls ? 'ssl' : 'tcp') . "://{$parts['host']}:$port";
        $this->host = "{$parts['host']}:$port";
        $this->prefix = rtrim($parts['path'] ?? '', '/');
    }

    public function request(string $method, string $path, array $headers, string $body, int $timeout): Response
    {
        $deadline = microtime(true) + $timeout;
        $this->open();
        try {
            $this->write($this->text($method, $path, $headers, $body), $deadline);
            return $this->read($deadline);
        } catch (IngressUnreachable $error) {
            $this->close();
            throw $error;
        }
    }

    public function close(): void
    {
        if ($this->stream !== null) {
            fclose($this->stream);
        }
        $this->stream = null;
        $this->received = '';
    }

    public function __destruct()
    {
        $this->close();
    }

    private function open(): void
    {
        // Between two answers nothing comes: whatever there is to read is the end.
        if ($this->stream !== null && $this->isReadable(0.0)) {
            $this->close();
        }
        if ($this->stream === null) {
            $stream = @stream_socket_client($this->address, $code, $text, $this->connectTimeout);
            $this->stream = $stream ?: throw new IngressUnreachable("$this->host: $text", false);
            stream_set_blocking($this->stream, false);
        }
    }

    /** @param array<string, string> $headers */
    private function text(string $method, string $path, array $headers, string $body): string
    {
        $text = "$method $this->prefix$path HTTP/1.1\r\nHost: $this->host\r\nContent-Length: " . strlen($body) . "\r\n";
        foreach ($headers as $name => $value) {
            if (preg_match('/[\r\n\0]/', "$name$value")) {
                throw new \InvalidArgumentException("a line break in the header $name");
            }
            $text .= "$name: $value\r\n";
        }
        return "$text\r\n$body";
    }

    private function write(string $text, float $deadline): void
    {
        $total = strlen($text);
        while ($text !== '') {
            $len = @fwrite($this->stream, $text);
            if ($len === false) {
                throw new IngressUnreachable('ws2api broke off', strlen($text) < $total);
            }
            $text = substr($text, $len);
            if ($text !== '' && $len === 0) {
                $left = $deadline - microtime(true);
                if ($left <= 0) {
                    throw new IngressUnreachable('ws2api does not read', true);
                }
                [$readable, $writable, $none] = [null, [$this->stream], null];
                @stream_select($readable, $writable, $none, 0, (int) (min($left, 0.5) * 1e6));
            }
        }
    }

    private function read(float $deadline): Response
    {
        do {
            while (($end = strpos($this->received, "\r\n\r\n")) === false) {
                $this->more($deadline);
            }
            $lines = explode("\r\n", substr($this->received, 0, $end));
            $this->received = substr($this->received, $end + 4);
            if (!preg_match('~^HTTP/1\.[01] (\d{3})~', array_shift($lines), $match)) {
                throw new IngressUnreachable('that is not HTTP', true);
            }
            $status = (int) $match[1];
        } while ($status < 200);
        $headers = [];
        foreach ($lines as $line) {
            [$name, $value] = explode(':', $line, 2) + [1 => ''];
            $headers[strtolower($name)] = trim($value);
        }
        $body = match (true) {
            $status === 204, $status === 304 => '',
            stripos($headers['transfer-encoding'] ?? '', 'chunked') !== false => $this->chunks($deadline),
            isset($headers['content-length']) => $this->bytes((int) $headers['content-length'], $deadline),
            default => $this->rest($deadline),
        };
        if (strcasecmp($headers['connection'] ?? '', 'close') === 0) {
            $this->close();
        }
        return new Response($status, $headers, $body);
    }

    private function chunks(float $deadline): string
    {
        $body = '';
        while (true) {
            while (($end = strpos($this->received, "\r\n")) === false) {
                $this->more($deadline);
            }
            $len = (int) hexdec(strtok(substr($this->received, 0, $end), ';'));
            $this->received = substr($this->received, $end + 2);
            $piece = $this->bytes($len + 2, $deadline);
            if ($len === 0) {
                return $body;
            }
            $body .= substr($piece, 0, $len);
        }
    }

    private function bytes(int $len, float $deadline): string
    {
        if ($len > self::ANSWER_MAX) {
            throw new IngressUnreachable("an answer of $len bytes", true);
        }
        while (strlen($this->received) < $len) {
            $this->more($deadline);
        }
        $bytes = substr($this->received, 0, $len);
        $this->received = substr($this->received, $len);
        return $bytes;
    }

    /** All that comes until the other side closes (RFC 9112, 6.3). */
    private function rest(float $deadline): string
    {
        while ($this->hasMore($deadline)) {
            continue;
        }
        $body = $this->received;
        $this->close();
        return $body;
    }

    private function more(float $deadline): void
    {
        if (!$this->hasMore($deadline)) {
            throw new IngressUnreachable('ws2api broke off', true);
        }
    }

    /** False at the end. */
    private function hasMore(float $deadline): bool
    {
        $left = $deadline - microtime(true);
        if ($left <= 0 || strlen($this->received) > self::ANSWER_MAX) {
            throw new IngressUnreachable('no answer from ws2api in time', true);
        }
        // Read first: TLS may hold what the socket no longer shows.
        $piece = @fread($this->stream, 65536);
        if ($piece === false || $piece === '' && feof($this->stream)) {
            return false;
        }
        $this->received .= $piece;
        if ($piece === '') {
            $this->isReadable($left);
        }
        return true;
    }

    private function isReadable(float $seconds): bool
    {
        [$readable, $none, $nothing] = [[$this->stream], null, null];
        return (bool) @stream_select($readable, $none, $nothing, (int) $seconds, (int) (fmod($seconds, 1.0) * 1e6));
    }
}
